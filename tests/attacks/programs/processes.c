/* Too many, too large, too long, and processes that will not go. */
#include "attack.h"

static void fork_count(void) {
    int count = 1;
    for (int pid; (pid = fork()) >= 0; count++) if (pid == 0) for (;;) pause();
    printf("processes %d\n", count);
}

static int sleeper(void *unused) { for (;;) pause(); }

static void thread_count(void) {
    int count = 1;
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
    for (;; count++) {
        char *stack = mmap(0, 1 << 14, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (clone(sleeper, stack + (1 << 14), flags, 0) < 0) break;
    }
    printf("threads %d\n", count);
}

static void fork_bomb(void) { for (;;) fork(); }

static void memory(void) {
    for (;;) {
        char *block = malloc(1 << 20);
        if (block) memset(block, 1, 1 << 20);
        usleep(500);
    }
}

static void memory_in_parts(void) {
    /* None of them alone is over the bound. */
    int first = getpid();
    for (int i = 0; i < 6; i++) if (fork() == 0) break;
    for (int i = 0; i < 60; i++) {
        memset(malloc(1 << 20), 1, 1 << 20);
        usleep(500);
    }
    if (getpid() != first) sleep(2);
    while (wait(0) > 0) {}
    _exit(1);
}

static void memory_files(void) {
    static char block[1 << 20] = {1};
    for (;;) {
        int fd = syscall(SYS_memfd_create, "hoard", 0);
        for (int i = 0; i < 16; i++) {
            if (write(fd, block, sizeof block) < 0) break;
            usleep(500);
        }
    }
}

static void fill(const char *directory, int kept) {
    static char block[1 << 18] = {1};
    for (int n = 0;; n++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/fill%d", directory, n);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (!kept) unlink(name);
        for (int i = 0; i < 16; i++) if (write(fd, block, sizeof block) < 0) usleep(100000);
        if (kept) close(fd);
        usleep(10000);
    }
}

static void disk(void) { fill(".", 1); }
static void disk_temporary(void) { fill(getenv("TMPDIR"), 1); }
static void disk_unlinked(void) { fill(".", 0); }

static void disk_allocated(void) {
    signal(SIGXFSZ, SIG_IGN);
    int fd = open("a.su", O_RDWR | O_CREAT, 0644);
    int modes[] = {0, 1 /* FALLOC_FL_KEEP_SIZE: no bound on a file's size is asked */, 0x10 /* FALLOC_FL_ZERO_RANGE */};
    for (int i = 0; i < 3; i++) {
        ATTEMPT(fallocate(fd, modes[i], 0, 20 << 20));
        ATTEMPT(fallocate(open(getenv("TMPDIR"), O_TMPFILE | O_RDWR, 0600), modes[i], 0, 20 << 20));
    }
    struct { short type, whence; long long start, length; int sysid, pid, pad[4]; } space = {0, 0, 0, 20 << 20};
    ATTEMPT(ioctl(fd, 0x40305828 /* FS_IOC_RESVSP */, &space));
    ATTEMPT(ioctl(fd, 0x4030582a /* FS_IOC_RESVSP64 */, &space));
    ATTEMPT(ioctl(fd, 0x40305839 /* FS_IOC_ZERO_RANGE */, &space));
    struct { unsigned flags, extent, extents, project, group; char pad[8]; } attributes = {0x800 /* grow by so much */, 1 << 30};
    ATTEMPT(ioctl(fd, 0x401c5820 /* FS_IOC_FSSETXATTR */, &attributes));
    struct stat about;
    fstat(fd, &about);
    if (about.st_blocks > 0) GOT("%ld blocks", (long)about.st_blocks);
    /* The C library's own writes instead, block after block; whoever wants room still gets it, and is seen to grow. */
    fd = open("room", O_RDWR | O_CREAT, 0644);
    int failed = posix_fallocate(fd, 0, 1 << 20);
    if (failed || fstat(fd, &about) || about.st_size != 1 << 20) printf("GOT no room: %d\n", failed);
}

static void one_large_file(void) {
    static char block[1 << 20] = {1};
    int fd = open("a.o", O_WRONLY | O_CREAT, 0644);
    for (;;) if (write(fd, block, sizeof block) < 0) break;
}

static void flood(int fd) { for (;;) if (write(fd, "error: this goes on and on and on\n", 34) < 0) _exit(1); }
static void endless_stderr(void) { flood(2); }
static void endless_stdout(void) { flood(1); }
static void endless_stderr_of_another(void) { if (fork() == 0) { setsid(); if (fork() == 0) flood(2); _exit(0); } for (;;) pause(); }

static void detach(void) {
    if (fork()) return;
    setsid();
    if (fork()) _exit(0);
    for (int number = 1; number < 65; number++) signal(number, SIG_IGN);
    prctl(PR_SET_NAME, "innocent");
    prctl(PR_SET_PDEATHSIG, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (;;) { if (fork() == 0) { usleep(1000); _exit(0); } while (waitpid(-1, 0, WNOHANG) > 0) {} usleep(1000); }
}

static void outlive(void) { detach(); usleep(5000); }
static void stay(void) { detach(); for (int number = 1; number < 65; number++) signal(number, SIG_IGN); for (;;) pause(); }
static void stopped(void) { detach(); for (;;) raise(SIGSTOP); }

static void victim(void) {
    int fd = open(in(getenv("TMPDIR"), "secret"), O_WRONLY | O_CREAT, 0644);
    if (write(fd, "of another job\n", 15) < 0) puts("could not write");
    close(fd);
    for (;;) pause();
}

static void tell(int number) { if (write(1, "signal\n", 7) < 0) _exit(1); }
static void canary(void) {
    for (int number = 1; number < 32; number++) signal(number, tell);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}

const struct attack of_processes[] = {
    {"fork_count", fork_count}, {"thread_count", thread_count}, {"fork_bomb", fork_bomb}, {"memory", memory},
    {"memory_in_parts", memory_in_parts}, {"memory_files", memory_files}, {"disk", disk}, {"disk_temporary", disk_temporary},
    {"disk_unlinked", disk_unlinked}, {"disk_allocated", disk_allocated}, {"one_large_file", one_large_file},
    {"endless_stderr", endless_stderr}, {"endless_stdout", endless_stdout},
    {"endless_stderr_of_another", endless_stderr_of_another}, {"outlive", outlive}, {"stay", stay}, {"stopped", stopped},
    {"victim", victim}, {"canary", canary}, {0, 0},
};
