// The rows of /proc.
#include "sentry/procfs/root_files.h"
#include "sentry/procfs/task_files.h"

namespace caisson::procfs {
namespace {

constexpr char kCgroups[] =
    "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t0\t1\t1\ncpu\t0\t1\t1\n"
    "cpuacct\t0\t1\t1\nblkio\t0\t1\t1\nmemory\t0\t1\t1\ndevices\t0\t1\t1\nfreezer\t0\t1\t1\n"
    "pids\t0\t1\t1\n";
constexpr char kCmdline[] = "BOOT_IMAGE=/caisson quiet\n";
constexpr char kExecdomains[] = "0-0\tLinux           \t[kernel]\n";
constexpr char kMarker[] = "1\n";
constexpr char kNothing[] = "";
constexpr char kSwaps[] = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
constexpr char kMountsTarget[] = "self/mounts";
constexpr char kNetTarget[] = "self/net";
constexpr Entry kSysvEntries[] = {File<ReadSysvMsg>("msg"), File<ReadSysvSem>("sem"),
                                  File<ReadSysvShm>("shm")};
constexpr Directory kSysvDirectory{.entries = kSysvEntries, .cached = true};

// ps(1) finds names of terminals by their numbers here.
constexpr char kTtyDrivers[] =
    "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
    "/dev/console         /dev/console    5       1 system:console\n"
    "/dev/ptmx            /dev/ptmx       5       2 system\n"
    "pty_slave            /dev/pts      136 0-1048575 pty:slave\n"
    "pty_master           /dev/ptm      128 0-1048575 pty:master\n";
constexpr char kTtyLdiscs[] = "n_tty       0\n";
constexpr Entry kTtyEntries[] = {File<Constant<kTtyDrivers>>("drivers"),
                                 File<Constant<kTtyLdiscs>>("ldiscs")};
constexpr Directory kTtyDirectory{.entries = kTtyEntries, .cached = true};

constexpr Entry kEntries[] = {
    File<ReadBuddyinfo>("buddyinfo"),
    File<Constant<kCgroups>>("cgroups"),
    File<Constant<kCmdline>>("cmdline"),
    File<Constant<kNothing>>("consoles"),
    File<ReadCpuinfo>("cpuinfo"),
    File<ReadDevices>("devices"),
    File<Constant<kNothing>>("diskstats"),
    File<Constant<kExecdomains>>("execdomains"),
    File<ReadFilesystems>("filesystems"),
    File<ReadInterrupts>("interrupts"),
    File<Constant<kMarker>>("kernel_is_caisson"),
    SpecialFile<OpenKmsg>("kmsg", 0400),
    File<ReadLoadavg>("loadavg"),
    File<ReadLocks>("locks"),
    File<ReadMeminfo>("meminfo"),
    File<Constant<kNothing>>("misc"),
    File<Constant<kNothing>>("modules"),
    Link<Constant<kMountsTarget>>("mounts"),
    Link<Constant<kNetTarget>>("net"),
    File<Constant<kNothing>>("partitions"),
    Link<SelfLink>("self"),
    File<ReadKernelStat>("stat"),
    File<Constant<kSwaps>>("swaps"),
    Dir("sys", kSysctlDirectory),
    Dir("sysvipc", kSysvDirectory),
    Link<ThreadSelfLink>("thread-self"),
    Dir("tty", kTtyDirectory),
    File<ReadUptime>("uptime"),
    File<ReadVersion>("version"),
    File<ReadVmstat>("vmstat"),
    File<ReadZoneinfo>("zoneinfo"),
};
constexpr Directory kRootDirectory{.entries = kEntries,
                                   .lookup = Adapt<LookupProcess>::Call,
                                   .list = Adapt<ListProcesses>::Call};

}  // namespace

constinit const Entry kProcRoot = Dir("", kRootDirectory);

}  // namespace caisson::procfs
