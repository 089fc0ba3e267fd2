/* Reading and writing what is not the job's. */
#include "attack.h"

static void remount(void) {
    ATTEMPT(mount("none", "/", 0, MS_REMOUNT | MS_BIND, 0));
    ATTEMPT(mount("none", "/", 0, MS_REMOUNT, 0));
    ATTEMPT(mount("none", "/opt/tool/sealed", 0, MS_REMOUNT | MS_BIND, 0));
    ATTEMPT(mount("none", "/", 0, MS_SHARED | MS_REC, 0));
    unsigned long long attributes[4] = {0, 1 /* MOUNT_ATTR_RDONLY, to be cleared */, 0, 0};
    ATTEMPT(syscall(442 /* mount_setattr */, AT_FDCWD, "/", 0, attributes, sizeof attributes));
}

static void mounts(void) {
    ATTEMPT(mount("none", "/in", "tmpfs", 0, 0));
    ATTEMPT(mount("/", "sub", 0, MS_BIND | MS_REC, 0));
    ATTEMPT(mount("proc", "sub", "proc", 0, 0));
    ATTEMPT(mount("none", "sub", "sysfs", 0, 0));
    ATTEMPT(mount("none", "sub", "cgroup2", 0, 0));
    ATTEMPT(mount("/dev/vda", "sub", "ext4", 0, 0));
    ATTEMPT(umount2("/opt/tool/sealed", MNT_DETACH));
    ATTEMPT(umount2("/proc", MNT_DETACH));
    ATTEMPT(umount2("/", MNT_DETACH));
    ATTEMPT(syscall(428 /* open_tree */, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
    ATTEMPT(syscall(430 /* fsopen */, "tmpfs", 0));
    ATTEMPT(syscall(SYS_pivot_root, ".", "sub"));
    ATTEMPT(chroot("sub"));
}

static int other(void *unused) { return mount("none", "/in", "tmpfs", 0, 0); }

static void namespaces(void) {
    int kinds[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP, 0x80};
    static char stack[1 << 16];
    for (int i = 0; i < 8; i++) {
        ATTEMPT(unshare(kinds[i]));
        ATTEMPT(unshare(CLONE_NEWUSER | kinds[i]));
        ATTEMPT(clone(other, stack + sizeof stack, CLONE_NEWUSER | kinds[i] | SIGCHLD, 0));
    }
    unsigned long long wanted[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    int pid = syscall(435 /* clone3 */, wanted, sizeof wanted);
    if (pid == 0) _exit(0);
    if (pid > 0) GOT("clone3 with a user namespace");
    char *names[] = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup", 0};
    for (char **name = names; *name; name++) ATTEMPT(setns(open(in("/proc/1/ns", *name), O_RDONLY), 0));
    ATTEMPT(writes("/proc/sys/user/max_user_namespaces"));
}

static void privileges(void) {
    struct { unsigned version; int pid; } header = {0x20080522, 0};
    struct { unsigned effective, permitted, inheritable; } caps[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    gid_t none = 0;
    ATTEMPT(setuid(0));
    ATTEMPT(setresuid(0, 0, 0));
    ATTEMPT(setgid(0));
    ATTEMPT(setgroups(1, &none));
    ATTEMPT(syscall(SYS_capset, &header, caps));
    ATTEMPT(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21, 0, 0));
    ATTEMPT(prctl(PR_SET_SECUREBITS, 0));
    ATTEMPT(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    if (getuid() == 0 || geteuid() == 0) GOT("uid 0");
}

static void secrets(void) {
    char path[4096];
    const char *roots[] = {"", "/proc/1/root", "/proc/self/root", "/..", "/proc/1/cwd/../../../../../..", "/proc/self/cwd/../../../../../../..", 0};
    for (const char **root = roots; *root; root++) {
        ATTEMPT(reads(in(*root, "etc/shadow")));
        ATTEMPT(reads(in(*root, "etc/passwd")));
        ATTEMPT(reads(in(*root, "root/.bashrc")));
        snprintf(path, sizeof path, "%s%s/secret", *root, target.outside);
        ATTEMPT(reads(path));
        snprintf(path, sizeof path, "%s%s/blobs", *root, target.worker);
        ATTEMPT(reads(path));
        snprintf(path, sizeof path, "%s%s/jobs/slot-0/tmp/secret", *root, target.worker);
        ATTEMPT(reads(path));
    }
    for (int i = 0; i < 60; i++) if (chdir("..") < 0) break;
    ATTEMPT(reads("etc/shadow"));
    ATTEMPT(reads(target.outside + 1));
    snprintf(path, sizeof path, "/proc/%d/root/etc/shadow", target.pid);
    ATTEMPT(reads(path));
    snprintf(path, sizeof path, "/proc/%d/environ", target.pid);
    ATTEMPT(reads(path));
}

static void handles(void) {
    struct { struct file_handle head; unsigned char bytes[128]; } handle = {.head.handle_bytes = 128};
    int mount_id, here = open("/", O_RDONLY);
    name_to_handle_at(AT_FDCWD, "/", &handle.head, &mount_id, 0);
    ATTEMPT(open_by_handle_at(here, &handle.head, O_RDONLY));
    handle.head.handle_bytes = 8;
    handle.head.handle_type = 1;
    memcpy(handle.bytes, (int[]){2, 0}, 8);  /* the root of an ext4 file system */
    ATTEMPT(open_by_handle_at(here, &handle.head, O_RDONLY));
}

static void elsewhere(void) {
    const char *places[] = {"/new", "/in/new", "/opt/new", "/tmp/new", "/var/tmp/new", "/run/new", "/dev/new", "/dev/shm/new",
                            "/sys/new", "/proc/new", "/.sccache-twisted/new", "/.sccache-twisted/exec", 0};
    for (const char **place = places; *place; place++) ATTEMPT(writes(*place));
    ATTEMPT(writes(in(target.outside, "new")));
    ATTEMPT(writes(in(target.outside, "public")));
    ATTEMPT(mkdir("/made", 0700));
    ATTEMPT(mknod("node", S_IFCHR | 0666, makedev(1, 1)));
    ATTEMPT(mknod("node", S_IFBLK | 0666, makedev(254, 0)));
}

static void elsewhere_less(void) {
    ATTEMPT(writes("/usr/new"));
    ATTEMPT(writes("/var/tmp/new"));
    ATTEMPT(writes(in(target.outside, "new")));
    ATTEMPT(writes(in(target.outside, "public")));
}

static void swap_directories(void) {
    /* For the second command's mounts: one link for the way from outside, one for the way from inside. */
    if (rename("/deep/a", "/deep/c")) perror("not moved");
    if (symlink("/oldroot/etc", "/deep/a")) perror("not linked");
}

static void change(const char *path) {
    struct timespec times[2] = {{1, 0}, {1, 0}};
    ATTEMPT(chmod(path, 0777));
    ATTEMPT(open(path, O_WRONLY));
    ATTEMPT(open(path, O_RDWR | O_TRUNC));
    ATTEMPT(truncate(path, 0));
    ATTEMPT(unlink(path));
    ATTEMPT(rename(path, "stolen"));
    ATTEMPT(rename("/proc/self/exe", path));
    ATTEMPT(utimensat(AT_FDCWD, path, times, 0));
    ATTEMPT(setxattr(path, "user.mark", "1", 1, 0));
    ATTEMPT(link(path, "linked"));
    ATTEMPT(linkat(open(path, O_RDONLY), "", AT_FDCWD, "linked", AT_EMPTY_PATH));
    ATTEMPT(lchown(path, getuid(), getgid()));
    ATTEMPT(mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, open(path, O_RDWR), 0) == MAP_FAILED ? -1 : 0);
}

static void inputs(void) { change("/in/a.h"); change("/bin/attack"); }
static void toolchain(void) { change("/opt/tool/sealed"); change("/opt/tool/bin/true"); change("/.sccache-twisted/exec"); }

static void moved_toolchain(void) {
    /* The directory above what is sealed is the job's to write to. */
    ATTEMPT(rename("/opt/tool", "/opt/other"));
    ATTEMPT(rename("/opt", "/other"));
    ATTEMPT(rmdir("/opt/tool/bin"));
    ATTEMPT(unlink("/opt/tool/bin/true"));
    ATTEMPT(writes("/opt/tool/bin/new"));
    ATTEMPT(rename("/opt/tool/bin", "/opt/tool/moved"));
}

static void worker_stores(void) {
    char line[4096], path[4096];
    FILE *mounts = fopen("/proc/self/mountinfo", "r");
    /* The kernel says where on the host each mount comes from. */
    while (mounts && fgets(line, sizeof line, mounts)) {
        if (sscanf(line, "%*s %*s %*s %4000s", path) != 1 || !strcmp(path, "/")) continue;
        if (strncmp(path, target.worker, strlen(target.worker)) == 0 && access(path, F_OK) == 0) GOT("sight of %s", path);
        if (strstr(path, "toolchains") || strstr(path, "slot-")) ATTEMPT(writes(in(path, "new")));
    }
    const char *names[] = {"blobs/new", "toolchains/new", "jobs/new", "jobs/slot-0/tmp/new", "starter", "lock", 0};
    for (const char **name = names; *name; name++) ATTEMPT(writes(in(target.worker, *name)));
}

static void poison(void) {
    /* All of this the job may do; it is the next one that must not notice. */
    struct stat about;
    stat("own.h", &about);
    struct timespec times[2] = {about.st_atim, about.st_mtim};
    chmod("own.h", 0644);
    int fd = open("own.h", O_WRONLY);
    if (fd < 0) {
        unlink("own.h");
        fd = open("own.h", O_WRONLY | O_CREAT, 0444);
    }
    char evil[] = "#define OWN 666\n";
    if (write(fd, evil, sizeof evil - 1) < 0) puts("could not write");
    futimens(fd, times);
    close(fd);
    rename("a.c", "b.c");
    put("a.c", "#error poisoned\n");
    put("optional.h", "#error poisoned\n");
    put("a.o", "no object\n");
    put("a.d", "a.o: /etc/shadow\n");
    put("a.su", "left by another\n");
    put("as", "no assembler\n");
    put(in(getenv("TMPDIR"), "ccleft.s"), "left\n");
}

static void attributes(void) {
    /* user::rwx, user:<somebody>:rwx, group, mask, other: what new files in the directory would inherit. */
    unsigned short acl[] = {2, 0, 1, 7, 0xffff, 0xffff, 2, 7, 4242, 0, 4, 7, 0xffff, 0xffff, 0x10, 7, 0xffff, 0xffff, 0x20, 7, 0xffff, 0xffff};
    setxattr(".", "system.posix_acl_default", acl, sizeof acl, 0);
    setxattr(getenv("TMPDIR"), "system.posix_acl_default", acl, sizeof acl, 0);
    setxattr(".", "user.mark", "1", 1, 0);
    setxattr("own.h", "user.mark", "1", 1, 0);
    chmod(".", 02777);
    int fd = open(".", O_RDONLY);
    int flags[] = {0x10 /* immutable */, 0x20 /* append only */, 0x4000 /* journal data */};
    for (int i = 0; i < 2; i++) ATTEMPT(ioctl(fd, 0x40086602 /* FS_IOC_SETFLAGS */, flags + i));
    put("a.o", "x");
    fd = open("a.o", O_RDONLY);
    for (int i = 0; i < 2; i++) ATTEMPT(ioctl(fd, 0x40086602, flags + i));
    ATTEMPT(setxattr("a.o", "security.capability", "\1\0\0\2\377\377\377\377\0\0\0\0", 20, 0));
    ATTEMPT(setxattr("a.o", "trusted.mark", "1", 1, 0));
}

static void setuid_program(void) {
    char data[1 << 16];
    int from = open("/proc/self/exe", O_RDONLY), to = open("a.o", O_WRONLY | O_CREAT, 0755);
    for (int size; (size = read(from, data, sizeof data)) > 0;) if (write(to, data, size) != size) break;
    fchmod(to, 06777);
    close(to);
    if (fork() == 0) {
        char number[6][16];
        snprintf(number[0], 16, "%d", target.canary);
        execl("./a.o", "a.o", "privileges", target.outside, number[0], "0", "x", target.worker, "0", (char *)0);
        _exit(9);
    }
    wait(0);
}

const struct attack of_files[] = {
    {"remount", remount}, {"mounts", mounts}, {"namespaces", namespaces}, {"privileges", privileges}, {"secrets", secrets},
    {"handles", handles}, {"elsewhere", elsewhere}, {"inputs", inputs}, {"toolchain", toolchain},
    {"moved_toolchain", moved_toolchain}, {"worker_stores", worker_stores}, {"poison", poison}, {"attributes", attributes},
    {"setuid_program", setuid_program},
    {"elsewhere_less", elsewhere_less}, {"swap_directories", swap_directories}, {0, 0},
};
