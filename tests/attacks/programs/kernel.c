/* The kernel, other processes, the network: what namespaces and the filter of system calls are for. */
#include "attack.h"

static int sends(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    int sent = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0) close(fd);
    return sent;
}

static void proc(void) {
    ATTEMPT(sends("/proc/sysrq-trigger", "h"));
    ATTEMPT(sends("/proc/sys/kernel/core_pattern", "|/bin/attack"));
    ATTEMPT(sends("/proc/sys/kernel/hostname", "owned"));
    ATTEMPT(sends("/proc/sys/kernel/modprobe", "/bin/attack"));
    ATTEMPT(sends("/proc/sys/vm/drop_caches", "1"));
    ATTEMPT(sends("/proc/self/uid_map", "0 0 1"));
    ATTEMPT(sends("/proc/self/gid_map", "0 0 1"));
    ATTEMPT(sends("/proc/self/setgroups", "allow"));
    ATTEMPT(sends("/proc/self/oom_score_adj", "-1000"));
    ATTEMPT(sends("/proc/1/oom_score_adj", "-1000"));
    ATTEMPT(reads("/proc/kcore"));
    ATTEMPT(reads("/proc/kmsg"));
    ATTEMPT(reads("/dev/mem"));
    ATTEMPT(reads("/dev/kmsg"));
    ATTEMPT(reads("/dev/kvm"));
    ATTEMPT(reads("/dev/vda"));
    ATTEMPT(reads("/sys/kernel"));
    ATTEMPT(reads("/proc/1/environ"));
    ATTEMPT(open("/proc/1/exe", O_WRONLY));
    ATTEMPT(open("/proc/self/exe", O_WRONLY));
    ATTEMPT(writes("/proc/self/cgroup"));
}

static void descriptors(void) {
    char path[64];
    for (int fd = 3; fd < 4096; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) GOT("descriptor %d", fd);
        snprintf(path, sizeof path, "/proc/1/fd/%d", fd);
        if (open(path, O_RDONLY | O_NONBLOCK) >= 0) { GOT("descriptor %d of the first process", fd); break; }
    }
    int first = syscall(SYS_pidfd_open, target.pid, 0);
    ATTEMPT(syscall(438 /* pidfd_getfd */, first, 1, 0));
    if (read(0, path, 1) > 0) GOT("something on stdin");
}

static void keys(void) {
    char secret[64] = {0};
    long key = syscall(SYS_keyctl, 10 /* search */, -3 /* the session's keyring */, "user", "canary", 0);
    if (key >= 0) GOT("the worker's key");
    if (key >= 0 && syscall(SYS_keyctl, 11 /* read */, key, secret, sizeof secret) > 0) GOT("%s", secret);
    ATTEMPT(syscall(SYS_add_key, "user", "left", "x", 1, -4 /* the user's keyring */));
    ATTEMPT(syscall(SYS_add_key, "user", "left", "x", 1, -3));
    ATTEMPT(syscall(SYS_keyctl, 0, -3, 0));
    ATTEMPT(syscall(SYS_keyctl, 1 /* join */, "left", 0, 0, 0));
    ATTEMPT(syscall(SYS_request_key, "user", "canary", 0, 0));
}

static void surface(void) {
    char room[256] = {0};
    ATTEMPT(syscall(425 /* io_uring_setup */, 8, room));
    ATTEMPT(syscall(SYS_userfaultfd, 0));
    ATTEMPT(syscall(SYS_userfaultfd, 1 /* user mode only */));
    memcpy(room, (int[]){1 /* array */, 4, 4, 1}, 16);
    ATTEMPT(syscall(SYS_bpf, 0 /* create a map */, room, 72));
    memset(room, 0, sizeof room);
    memcpy(room, (int[]){1 /* software */, 112, 0 /* cpu clock */}, 12);
    ATTEMPT(syscall(SYS_perf_event_open, room, 0, -1, -1, 0));
    ATTEMPT(syscall(0x40000000 | SYS_getpid));
    ATTEMPT(syscall(SYS_init_module, room, 1, ""));
    ATTEMPT(syscall(SYS_kexec_load, 0, 0, 0, 0));
}

static void memory_of_nobody(void) {
    ATTEMPT(syscall(SYS_shmget, 0, 1 << 20, 01600));
    ATTEMPT(syscall(SYS_msgget, 0, 01600));
    ATTEMPT(writes("/dev/shm/x"));
    ATTEMPT(writes("/dev/mqueue/x"));
}

static void sockets(void) {
    ATTEMPT(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
    ATTEMPT(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0));
    ATTEMPT(socket(AF_PACKET, SOCK_RAW, 0));
    ATTEMPT(socket(AF_INET, SOCK_RAW, 1));
    ATTEMPT(socket(31 /* AF_BLUETOOTH */, SOCK_RAW, 1));
    ATTEMPT(socket(44 /* AF_XDP */, SOCK_RAW, 0));
    ATTEMPT(socket(30 /* AF_TIPC */, SOCK_SEQPACKET, 0));
}

static void network(void) {
    struct sockaddr_in to = {AF_INET, htons(target.port), {inet_addr("127.0.0.1")}};
    struct sockaddr_in6 six = {AF_INET6, htons(target.port), 0, IN6ADDR_LOOPBACK_INIT};
    ATTEMPT(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to));
    sendto(socket(AF_INET, SOCK_DGRAM, 0), "x", 1, 0, (void *)&to, sizeof to);  /* to nobody on its own loopback */
    ATTEMPT(connect(socket(AF_INET6, SOCK_STREAM, 0), (void *)&six, sizeof six));
    to.sin_addr.s_addr = inet_addr("192.0.2.1");
    ATTEMPT(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&to, sizeof to));
    struct { struct { unsigned len; unsigned short type, flags; unsigned seq, pid; } head; char more[16]; } up = {{32, 16 /* new link */, 5, 1, 0}};
    struct sockaddr kernel = {AF_NETLINK};
    int link = socket(AF_NETLINK, SOCK_RAW, 0);
    char answer[512];
    sendto(link, &up, 32, 0, &kernel, 12);
    if (recv(link, answer, sizeof answer, MSG_DONTWAIT) >= 20 && *(int *)(answer + 16) == 0) GOT("a network interface");
}

static void unix_sockets(void) {
    struct sockaddr_un name = {AF_UNIX};
    strcpy(name.sun_path + 1, target.abstract);
    int length = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(target.abstract);
    ATTEMPT(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, length));
    ATTEMPT(sendto(socket(AF_UNIX, SOCK_DGRAM, 0), "x", 1, 0, (void *)&name, length));
    snprintf(name.sun_path, sizeof name.sun_path, "%s/socket", target.outside);
    ATTEMPT(connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name));
}

static void signals(void) {
    int pids[] = {target.canary, target.pid};
    for (int i = 0; i < 2; i++) {
        ATTEMPT(kill(pids[i], 0));
        ATTEMPT(kill(pids[i], SIGUSR1));
        ATTEMPT(syscall(SYS_tgkill, pids[i], pids[i], SIGUSR1));
        ATTEMPT(syscall(SYS_pidfd_open, pids[i], 0));
        ATTEMPT(setpriority(PRIO_PROCESS, pids[i], 19));
        ATTEMPT(sched_getaffinity(pids[i], sizeof(cpu_set_t), &(cpu_set_t){0}));
    }
    kill(-1, SIGUSR1);
    kill(-1, SIGTERM);
    kill(1, SIGKILL);
    kill(getppid(), SIGKILL);
    setpriority(PRIO_USER, 0, 19);
    for (int pid = 3; pid < 400; pid++) if (pid != getpid() && kill(pid, 0) == 0) GOT("sight of process %d", pid);
}

static void tracing(void) {
    char page[64], path[64];
    struct iovec here = {page, sizeof page}, there = {(void *)0x400000, sizeof page};
    int pids[] = {target.canary, target.pid};
    for (int i = 0; i < 2; i++) {
        ATTEMPT(ptrace(PTRACE_ATTACH, pids[i], 0, 0));
        ATTEMPT(ptrace(PTRACE_SEIZE, pids[i], 0, 0));
        ATTEMPT(process_vm_readv(pids[i], &here, 1, &there, 1, 0));
        ATTEMPT(process_vm_writev(pids[i], &here, 1, &there, 1, 0));
        ATTEMPT(syscall(312 /* kcmp */, getpid(), pids[i], 0, 0, 0));
        snprintf(path, sizeof path, "/proc/%d/mem", pids[i]);
        ATTEMPT(open(path, O_RDWR));
    }
}

static void terminal(void) {
    char *names[] = {"/dev/tty", "/dev/console", "/dev/stdin", "/dev/stdout", "/dev/stderr", 0};
    for (char **name = names; *name; name++) ATTEMPT(ioctl(open(*name, O_RDWR | O_NONBLOCK), TIOCSTI, "x"));
    for (int fd = 0; fd < 3; fd++) ATTEMPT(ioctl(fd, TIOCSTI, "x"));
    ATTEMPT(tcgetpgrp(0));
}

static void machine(void) {
    struct timeval then = {1, 0};
    ATTEMPT(settimeofday(&then, 0));
    ATTEMPT(sethostname("owned", 5));
    ATTEMPT(syscall(SYS_reboot, 0xfee1dead, 672274793, 0 /* no ctrl-alt-del */, 0));
    ATTEMPT(syscall(SYS_swapoff, "/dev/vda"));
    ATTEMPT(syscall(SYS_acct, "a.o"));
    ATTEMPT(syscall(SYS_syslog, 3, "", 0));
    ATTEMPT(syscall(SYS_quotactl, 0x80000700, 0, 0, 0));
    ATTEMPT(syscall(SYS_ioprio_set, 1, 0, 1 << 13));
#ifdef SYS_iopl
    ATTEMPT(syscall(SYS_iopl, 3));
#endif
    struct sched_param first = {50};
    ATTEMPT(sched_setscheduler(0, SCHED_FIFO, &first));
    ATTEMPT(setpriority(PRIO_PROCESS, 0, -20));
}

static void bounds(void) {
    int kinds[] = {RLIMIT_CORE, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_CPU};
    for (int i = 0; i < 5; i++) {
        struct rlimit now, more = {RLIM_INFINITY, RLIM_INFINITY};
        getrlimit(kinds[i], &now);
        if (now.rlim_max == RLIM_INFINITY) GOT("no bound of kind %d", kinds[i]);
        ATTEMPT(setrlimit(kinds[i], &more));
        ATTEMPT(prlimit(1, kinds[i], &more, 0));
    }
}

static void core_dump(void) {
    struct rlimit more = {1 << 20, 1 << 20};
    ATTEMPT(setrlimit(RLIMIT_CORE, &more));
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    if (fork() == 0) abort();
    int status;
    wait(&status);
    if (WCOREDUMP(status)) GOT("a core dump");
    if (access("core", F_OK) == 0) GOT("a core file");
}

const struct attack of_kernel[] = {
    {"proc", proc}, {"descriptors", descriptors}, {"keys", keys}, {"surface", surface}, {"memory_of_nobody", memory_of_nobody},
    {"sockets", sockets}, {"network", network}, {"unix_sockets", unix_sockets}, {"signals", signals}, {"tracing", tracing},
    {"terminal", terminal}, {"machine", machine}, {"bounds", bounds}, {"core_dump", core_dump}, {0, 0},
};
