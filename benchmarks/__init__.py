"""What `ecom bench` runs. Figures are ratios within one run: machines differ."""
