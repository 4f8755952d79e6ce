import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.AclEntry;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;

/**
 * Makes and mends folders of HDFS. Standard input has one folder a line, separated by
 * tabs: path, owner, group, octal mode, ACL entries (may be empty). What differs is set
 * right. Standard output has a line a folder as it was found: path, owner, group, mode.
 * With the argument "check" nothing is changed.
 */
public class HdfsLayout {
    public static void main(String[] arguments) throws Exception {
        boolean check = arguments.length > 0 && "check".equals(arguments[0]);
        FileSystem files = FileSystem.get(new Configuration());
        awaitWritable(files);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] wanted = line.split("\t", -1);
            Path path = new Path(wanted[0]);
            System.out.println(wanted[0] + "\t" + describe(files, path));
            if (!check) {
                apply(files, path, wanted);
            }
        }
    }

    /** After a start the NameNode refuses changes until the DataNode has reported. */
    private static void awaitWritable(FileSystem files) throws Exception {
        if (!(files instanceof DistributedFileSystem)) {
            return;
        }
        for (int tries = 0; ((DistributedFileSystem) files).isInSafeMode(); tries++) {
            if (tries == 600) {
                throw new IllegalStateException("HDFS stays in safe mode: blocks are missing");
            }
            Thread.sleep(100);
        }
    }

    private static String describe(FileSystem files, Path path) throws Exception {
        if (!files.exists(path)) {
            return "missing\t\t";
        }
        FileStatus found = files.getFileStatus(path);
        int mode = found.getPermission().toShort();
        return found.getOwner() + "\t" + found.getGroup() + "\t" + Integer.toOctalString(mode);
    }

    private static void apply(FileSystem files, Path path, String[] wanted) throws Exception {
        files.mkdirs(path);
        files.setOwner(path, wanted[1], wanted[2]);
        files.setPermission(path, new FsPermission(Short.parseShort(wanted[3], 8)));
        if (wanted[4].length() > 0) {
            files.modifyAclEntries(path, AclEntry.parseAclSpec(wanted[4], true));
        }
    }
}
