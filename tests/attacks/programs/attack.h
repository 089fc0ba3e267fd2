/* What all hostile programs share. Each tries one kind of thing and says GOT for whatever succeeded. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define GOT(...) (printf("GOT " __VA_ARGS__), putchar('\n'), fflush(stdout))
#define ATTEMPT(call) do { if ((long)(call) >= 0) GOT("%s", #call); } while (0)

struct target {
    const char *outside;   /* a directory of the host's with secrets in it, open to everybody */
    int canary;            /* a process of the host's */
    int port;              /* where somebody listens on the host's loopback */
    const char *abstract;  /* the name of an abstract socket of the host's */
    const char *worker;    /* the worker's directory */
    int pid;               /* the worker's process */
};
extern struct target target;

struct attack { const char *name; void (*run)(void); };
extern const struct attack of_files[], of_outputs[], of_kernel[], of_processes[];

int reads(const char *path);             /* whether a file or directory can be opened for reading */
int writes(const char *path);            /* whether a file can be opened for writing or made */
const char *in(const char *directory, const char *name);
void put(const char *path, const char *text);
