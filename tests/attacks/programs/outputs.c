/* Leaving something as an output that is no output, or too much of it. */
#include "attack.h"

static void link_to_secret(void) { if (symlink(in(target.outside, "secret"), "a.o")) puts("no link"); }
static void link_to_public(void) { if (symlink(in(target.outside, "public"), "a.o")) puts("no link"); }
static void link_on_the_way(void) {
    rename("sub", "aside");
    if (symlink(target.outside, "sub")) puts("no link");
}
static void fifo(void) { mkfifo("a.o", 0666); }
static void folder(void) { mkdir("a.o", 0777); put("a.o/x", "x"); }
static void unix_socket(void) {
    struct sockaddr_un name = {AF_UNIX, "a.o"};
    if (bind(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name)) puts("no socket");
}
static void device(void) {
    ATTEMPT(mknod("a.o", S_IFCHR | 0666, makedev(1, 5)));
    symlink("/dev/zero", "a.o");
}
static void sparse(void) {
    signal(SIGXFSZ, SIG_IGN);
    int fd = open("a.o", O_WRONLY | O_CREAT, 0644);
    ATTEMPT(ftruncate(fd, 1L << 40));
    if (ftruncate(fd, 20 << 20)) puts("no sparse file");
}
static void closed(void) { put("a.o", "x"); chmod("a.o", 0); chmod("sub", 0); }
static void together(void) {
    const char *names[] = {"a.o", "a.d", "a.su", "sub/b.o", 0};
    for (const char **name = names; *name; name++) {
        int fd = open(*name, O_WRONLY | O_CREAT, 0644);
        if (ftruncate(fd, 6 << 20)) puts("not truncated");
        close(fd);
    }
}
static void linked_input(void) {
    /* An input beside the outputs is the job's own copy: it may leave it as an output. */
    if (link("own.h", "a.o")) puts("no link");
    ATTEMPT(link(in(target.outside, "secret"), "a.d"));
    ATTEMPT(link("/proc/1/exe", "a.d"));
}
static void leased(void) {
    put("a.o", "x");
    int fd = open("a.o", O_RDWR);
    fcntl(fd, F_SETLEASE, F_WRLCK);
    flock(fd, LOCK_EX);
    struct flock all = {F_WRLCK, SEEK_SET, 0, 0};
    fcntl(fd, F_SETLK, &all);
    if (fork() == 0) { setsid(); for (;;) pause(); }
}
static void deep(void) {
    for (int i = 0; i < 1200; i++) {
        mkdir("a-directory-with-a-long-name", 0700);
        if (chdir("a-directory-with-a-long-name")) break;
    }
}
static void names(void) {
    char name[256] = {0};
    put("line\nbreak.o", "x");
    put("\xff\xfe\x01\x1b[31m", "x");
    put("-rf", "x");
    memset(name, 'n', 255);
    put(name, "x");
    mkdir("closed\n", 0);
    symlink("/", "root");
}
static void inodes(void) {
    mkdir("many", 0700);
    if (chdir("many")) return;
    for (int i = 0;; i++) {
        char name[32];
        snprintf(name, sizeof name, "%d", i);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (fd >= 0) close(fd);
        if (i > 6000) usleep(1000);
    }
}
static void directories(void) {
    for (int i = 0;; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s/d%d", getenv("TMPDIR"), i);
        mkdir(name, i % 2 ? 0 : 0700);
        if (i > 6000) usleep(1000);
    }
}

const struct attack of_outputs[] = {
    {"link_to_secret", link_to_secret}, {"link_to_public", link_to_public}, {"link_on_the_way", link_on_the_way}, {"fifo", fifo},
    {"folder", folder}, {"unix_socket", unix_socket}, {"device", device}, {"sparse", sparse}, {"closed", closed},
    {"together", together}, {"linked_input", linked_input}, {"leased", leased}, {"deep", deep}, {"names", names},
    {"inodes", inodes}, {"directories", directories}, {0, 0},
};
