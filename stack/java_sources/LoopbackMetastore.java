import java.util.concurrent.TimeUnit;
import org.apache.hadoop.hive.common.auth.HiveAuthUtils;
import org.apache.hadoop.hive.conf.HiveConf;
import org.apache.hadoop.hive.metastore.HiveMetaStore;
import org.apache.hadoop.hive.metastore.IHMSHandler;
import org.apache.hadoop.hive.metastore.TServerSocketKeepAlive;
import org.apache.hadoop.hive.metastore.TUGIBasedProcessor;
import org.apache.hadoop.hive.thrift.TUGIContainingTransport;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.server.TThreadPoolServer;

/**
 * The Hive metastore on 127.0.0.1 only. Hive 2.3's own main class binds every
 * address and has no setting against it, so the few lines that open its socket are
 * here. Started from source by the compiler inside pyspark's jars.
 */
public class LoopbackMetastore {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        HiveConf conf = new HiveConf(HiveMetaStore.class);
        HiveMetaStore.HMSHandler base =
            new HiveMetaStore.HMSHandler("ecom metastore", conf, false);
        IHMSHandler handler = HiveMetaStore.newRetryingHMSHandler(base, conf);
        TThreadPoolServer.Args settings = new TThreadPoolServer.Args(
            new TServerSocketKeepAlive(HiveAuthUtils.getServerSocket("127.0.0.1", port)));
        settings.processor(new TUGIBasedProcessor(handler));
        settings.transportFactory(new TUGIContainingTransport.Factory());
        settings.protocolFactory(new TBinaryProtocol.Factory());
        settings.minWorkerThreads(2);
        settings.maxWorkerThreads(64);
        new TThreadPoolServer(settings).serve();
    }
}
