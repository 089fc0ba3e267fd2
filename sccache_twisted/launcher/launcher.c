/* The native launcher: hands one command line to the daemon, and does what it says.
 *
 * Knows what nearly every call needs: the daemon's socket, the frames (see wire/__init__.py), a local slot, exec.
 * Refuses to know the rest. Where there is no daemon, where it goes away or talks nonsense, and for our own commands it
 * becomes the Python launcher, which lies beside it as sccache-twisted-python. That is possible until the first byte of
 * an answer is shown; nothing is shown before an answer was understood to its end.
 *
 * C11, libc only. Memory is never freed: a launcher lives for one call.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK "sccache-twisted launcher"
#define GUARD "_SCCACHE_TWISTED_RUNNING"
#define PYTHON_LAUNCHER "sccache-twisted-python"
#define MARKED_WITHIN 4096 /* a note lies behind the headers of an ELF file */
#define SILENT "the daemon is silent, as one that is stopped"
#define MAX_ANSWER 0x7fffffffu
#define MAX_SLOTS 65536ul
#define SLOT_POLL_NANOSECONDS 5000000l
#define SILENCE_SECONDS 30l
#define FIRST_WAIT_MILLISECONDS 1000l
#ifndef DIGEST
#define DIGEST "unknown" /* of this file, when native.py builds it: tells one version from another */
#endif

/* How copies of and links to ourselves are known: this lands near the start of the file, and survives strip. */
__attribute__((section(".note.sccache_twisted"), used, aligned(4))) static const struct {
    uint32_t name_size, content_size, type;
    char name[28];
} note = {sizeof MARK, 0, 1, MARK};

static const char *const myself[] = {"sccache-twisted", "sccache", NULL};
static const char *const subcommands[] = {"cache", "cluster", "doctor", "drain", "invite", "jobs", "join", "token", "trace", "why", NULL};
static const char *const wrappers[] = {"ccache", "colorgcc", "distcc", "icecc", "icerun", "sccache", NULL};

extern char **environ;

/* The command as the Python launcher takes it, with room before it for three words; NULL-terminated. */
static char **command;
static bool compiles;

/* Where the daemon listens, and whether it was found to be stopped. */
static const char *daemon_socket;
static bool stuck;

static _Noreturn void hand_over(const char *why);

/* --- words ------------------------------------------------------------------------------------------------------- */

/* Memory, or the Python launcher in our place. */
static void *memory(size_t count, size_t size)
{
    void *made = calloc(count ? count : 1, size ? size : 1);
    if (made == NULL)
        hand_over(NULL);
    return made;
}

__attribute__((format(printf, 1, 2))) static char *text(const char *format, ...)
{
    char *made;
    va_list values;
    va_start(values, format);
    int length = vasprintf(&made, format, values);
    va_end(values);
    if (length < 0)
        hand_over(NULL);
    return made;
}

/* A descriptor that is not taken for standard input or output should those be closed; of -1, -1. */
static int not_standard(int descriptor)
{
    if (descriptor < 0 || descriptor > STDERR_FILENO)
        return descriptor;
    int moved = fcntl(descriptor, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    close(descriptor);
    return moved;
}

static bool is_one_of(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(word, *words) != 0)
        words++;
    return *words != NULL;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static size_t count_of(char *const *words)
{
    size_t count = 0;
    while (words[count] != NULL)
        count++;
    return count;
}

/* An environment variable that is set to something. */
static const char *setting(const char *name)
{
    const char *value = getenv(name);
    return value == NULL || *value == '\0' ? NULL : value;
}

/* Write all of it; a reader that is gone is the reader's business. */
static void show(int descriptor, const unsigned char *data, size_t length)
{
    while (length > 0) {
        ssize_t written = write(descriptor, data, length);
        if (written >= 0) {
            data += written;
            length -= (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd writable = {.fd = descriptor, .events = POLLOUT};
            poll(&writable, 1, -1);
        } else if (errno != EINTR) {
            return;
        }
    }
}

static void complain(const char *sentence)
{
    const char *line = text("sccache-twisted: %s\n", sentence);
    show(STDERR_FILENO, (const unsigned char *)line, strlen(line));
}

/* --- running programs -------------------------------------------------------------------------------------------- */

/* How much of a file's beginning could be read into the buffer. */
static size_t first_bytes(const char *path, char *buffer, size_t size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return 0;
    ssize_t length = read(descriptor, buffer, size);
    close(descriptor);
    return length < 0 ? 0 : (size_t)length;
}

/* Whether it is this program or the script, under whatever name, linked or copied. */
static bool is_launcher(const char *path)
{
    char start[MARKED_WITHIN];
    size_t length = first_bytes(path, start, sizeof start);
    bool elf = length > 4 && memcmp(start, "\177ELF", 4) == 0;
    return memmem(start, !elf && length > 64 ? 64 : length, MARK, strlen(MARK)) != NULL;
}

static bool is_program(const char *path)
{
    struct stat found;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode) && access(path, X_OK) == 0;
}

/* Whether a symbolic link on the way ends at a known compiler wrapper. */
static bool leads_to_wrapper(const char *path)
{
    char target[PATH_MAX];
    for (int links = 0; links < 40; links++) {
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            return is_one_of(base_name(path), wrappers);
        target[length] = '\0';
        const char *slash = strrchr(path, '/');
        int directory = slash == NULL ? 0 : (int)(slash - path) + 1;
        path = *target == '/' ? text("%s", target) : text("%.*s%s", directory, path, target);
    }
    return false;
}

/* The caller's environment; with a mark against endless recursion if the program may call a compiler by name. */
static char **guarded(const char *executable)
{
    char start[2];
    bool script = first_bytes(executable, start, 2) == 2 && memcmp(start, "#!", 2) == 0;
    if (!script && !is_one_of(base_name(executable), wrappers) && !leads_to_wrapper(executable))
        return environ;
    const char *running = setting(GUARD);
    char **entries = memory(count_of(environ) + 2, sizeof *entries);
    size_t count = 0;
    for (char **entry = environ; *entry != NULL; entry++)
        if (strncmp(*entry, GUARD "=", strlen(GUARD "=")) != 0)
            entries[count++] = *entry;
    entries[count] = running ? text(GUARD "=%s:%s", running, executable) : text(GUARD "=%s", executable);
    return entries;
}

/* Become the program; exits with the shell's status when it can't be run. */
static _Noreturn void execute(const char *executable, char **argv)
{
    if (executable == NULL || *executable == '\0') {
        complain(text("no program %s in PATH", argv[0]));
        _exit(127);
    }
    execve(executable, argv, guarded(executable));
    int status = errno == ENOENT ? 127 : 126;
    complain(text("cannot run %s: %s", executable, strerror(errno)));
    _exit(status);
}

/* Whether a path stands in a list with colons between. */
static bool is_listed(const char *path, const char *list)
{
    size_t length = strlen(path);
    while (list != NULL) {
        if (strncmp(list, path, length) == 0 && (list[length] == ':' || list[length] == '\0'))
            return true;
        list = strchr(list, ':');
        list = list == NULL ? NULL : list + 1;
    }
    return false;
}

/* Become the program that a command means, never ourselves nor one that already called us.
 *
 * gcc looks for itself on PATH by the name that it was called by, and must not find us: behind a link to ourselves it
 * is called by its path. */
static _Noreturn void execute_real(char **argv)
{
    const char *name = argv[0], *path = getenv("PATH");
    if (strchr(name, '/') != NULL)
        execute(is_launcher(name) ? NULL : name, argv);
    bool passed_over = false;
    for (path = path == NULL ? "/usr/local/bin:/usr/bin:/bin" : path; path != NULL;) {
        const char *colon = strchr(path, ':');
        int length = colon == NULL ? (int)strlen(path) : (int)(colon - path);
        char *candidate = length == 0 ? text("./%s", name) : text("%.*s/%s", length, path, name);
        if (is_program(candidate)) {
            if (!is_listed(candidate, getenv(GUARD)) && !is_launcher(candidate)) {
                if (passed_over)
                    argv[0] = candidate;
                execute(candidate, argv);
            }
            passed_over = true;
        }
        path = colon == NULL ? NULL : colon + 1;
    }
    execute(NULL, argv);
}

/* Become the Python launcher. With a reason it doesn't ask a daemon again, but compiles at once; before it, nothing of
 * an answer may have been shown. For our own commands it is told where it comes from. Without a Python launcher there is
 * still the compiler. */
static _Noreturn void hand_over(const char *why)
{
    static char path[PATH_MAX + sizeof PYTHON_LAUNCHER];
    static bool tried;
    if (tried)
        _exit(1); /* there is no Python launcher, and no memory to find the compiler with */
    tried = true;
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
    if (length < 0 && realpath((const char *)getauxval(AT_EXECFN), path) == NULL)
        path[0] = '\0';
    char *slash = strrchr(path, '/');
    static char alone[] = "--alone", native[] = "--native";
    char *option = compiles ? alone : native;
    if (!compiles)
        why = text("%s:%s", DIGEST, path);
    char **words = command - (why == NULL ? 1 : 3);
    if (slash != NULL) {
        memcpy(slash + 1, PYTHON_LAUNCHER, sizeof PYTHON_LAUNCHER);
        words[0] = path;
        if (why != NULL) {
            words[1] = option;
            words[2] = (char *)why;
        }
        execve(path, words, environ);
    }
    if (compiles)
        execute_real(command);
    complain(text("there is no %s beside this program, and it does nothing but compile", PYTHON_LAUNCHER));
    _exit(1);
}

/* --- frames: see wire/__init__.py -------------------------------------------------------------------------------- */

struct bytes {
    const unsigned char *at;
    size_t length;
};

/* Reads a body; what doesn't fit in it is remembered as wrong, and reads as nothing. */
struct reader {
    const unsigned char *at, *end;
    bool wrong;
};

static uint32_t read_number(struct reader *from)
{
    if (from->wrong || from->end - from->at < 4) {
        from->wrong = true;
        return 0;
    }
    const unsigned char *at = from->at;
    from->at += 4;
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static struct bytes read_field(struct reader *from)
{
    uint32_t length = read_number(from);
    if (from->wrong || (size_t)(from->end - from->at) < length) {
        from->wrong = true;
        return (struct bytes){from->at, 0};
    }
    struct bytes found = {from->at, length};
    from->at += length;
    return found;
}

/* A field as a word for exec, which holds no zero byte. */
static char *read_word(struct reader *from)
{
    struct bytes found = read_field(from);
    if (memchr(found.at, '\0', found.length) != NULL)
        from->wrong = true;
    char *word = memory(found.length + 1, 1);
    memcpy(word, found.at, found.length);
    return word;
}

/* A command line: a list with at least one word. */
static char **read_words(struct reader *from)
{
    uint32_t count = read_number(from);
    if (count == 0 || count > (size_t)(from->end - from->at) / 4) {
        from->wrong = true;
        count = 0;
    }
    char **words = memory((size_t)count + 1, sizeof *words);
    for (uint32_t position = 0; position < count && !from->wrong; position++)
        words[position] = read_word(from);
    return words;
}

static unsigned long read_decimal(struct reader *from)
{
    struct bytes digits = read_field(from);
    unsigned long value = 0;
    if (digits.length == 0 || digits.length > 9)
        from->wrong = true;
    for (size_t position = 0; position < digits.length && !from->wrong; position++) {
        if (digits.at[position] < '0' || digits.at[position] > '9')
            from->wrong = true;
        value = value * 10 + (unsigned long)(digits.at[position] - '0');
    }
    return value;
}

static bool was_understood(const struct reader *from)
{
    return !from->wrong && from->at == from->end;
}

static unsigned char *put_number(unsigned char *to, size_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        *to++ = (unsigned char)(value >> shift);
    return to;
}

static unsigned char *put_field(unsigned char *to, const void *data, size_t length)
{
    to = put_number(to, length);
    if (length > 0)
        memcpy(to, data, length);
    return to + length;
}

static unsigned char *put_words(unsigned char *to, char *const *words)
{
    to = put_number(to, count_of(words));
    for (; *words != NULL; words++)
        to = put_field(to, *words, strlen(*words));
    return to;
}

static size_t size_of_words(char *const *words)
{
    size_t size = 4;
    for (; *words != NULL; words++)
        size += 4 + strlen(*words);
    return size;
}

/* Begin a frame in new memory: room for ``size`` bytes of fields behind its length and kind. */
static unsigned char *begin_frame(unsigned char **frame, char kind, size_t size)
{
    *frame = memory(size + 5, 1);
    put_number(*frame, size + 1);
    (*frame)[4] = (unsigned char)kind;
    return *frame + 5;
}

static bool outlasts_silence(int connection, short event);

static bool send_all(int connection, const unsigned char *data, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(connection, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR && !(errno == EAGAIN && outlasts_silence(connection, POLLOUT)))
            return false;
        if (sent > 0) {
            data += sent;
            length -= (size_t)sent;
        }
    }
    return true;
}

/* The body of the next frame, or why there is none. Memory grows with what comes, not with what is announced. */
static const char *receive(int connection, struct reader *body)
{
    size_t have = 0, room = 1 << 16, wanted = 4;
    unsigned char *buffer = malloc(room);
    if (buffer == NULL)
        return "its answer does not fit in memory";
    while (have < wanted) {
        if (have == room) {
            unsigned char *grown = realloc(buffer, room *= 2);
            if (grown == NULL)
                return "its answer does not fit in memory";
            buffer = grown;
        }
        ssize_t came = recv(connection, buffer + have, (room < wanted ? room : wanted) - have, 0);
        if (came < 0 && (errno == EINTR || (errno == EAGAIN && outlasts_silence(connection, POLLIN))))
            continue;
        if (came < 0)
            return strerror(errno);
        if (came == 0)
            return "it hung up before it answered";
        have += (size_t)came;
        if (wanted == 4 && have == 4) {
            struct reader length = {buffer, buffer + 4, false};
            uint32_t announced = read_number(&length);
            if (announced == 0 || announced > MAX_ANSWER)
                return text("an answer of %lu bytes", (unsigned long)announced);
            wanted += announced;
        }
    }
    *body = (struct reader){buffer + 4, buffer + wanted, false};
    return NULL;
}

/* --- where the daemon is ----------------------------------------------------------------------------------------- */

/* A path that means the same from everywhere; NULL when the cwd is gone. */
static const char *absolute(const char *path)
{
    if (*path == '/')
        return path;
    const char *cwd = getcwd(NULL, 0);
    return cwd == NULL ? NULL : text("%s/%s", cwd, path);
}

static const char *socket_path(void)
{
    const char *explicit_path = setting("SCCACHE_SERVER_UDS");
    if (explicit_path != NULL)
        return absolute(explicit_path);
    const char *configuration = setting("SCCACHE_CONF"), *runtime = setting("XDG_RUNTIME_DIR");
    configuration = configuration == NULL ? "" : absolute(configuration);
    if (configuration == NULL)
        return NULL;
    uint64_t value = 0xcbf29ce484222325u;
    for (; *configuration != '\0'; configuration++)
        value = (value ^ (unsigned char)*configuration) * 0x100000001b3u;
    char *directory = runtime == NULL ? text("/tmp/sccache-twisted-%lu", (unsigned long)getuid())
                                      : text("%s/sccache-twisted", runtime);
    return text("%s/%016llx.sock", directory, (unsigned long long)value);
}

/* A number in decimal digits, with white space around it; 0 for anything else. */
static unsigned long whole_number(const char *word)
{
    word += strspn(word, " \t\r\n\v\f");
    size_t digits = strspn(word, "0123456789"), behind = strspn(word + digits, " \t\r\n\v\f");
    return word[digits + behind] == '\0' && digits < 10 ? strtoul(word, NULL, 10) : 0;
}

/* --- a daemon that is stopped: see silence.py -------------------------------------------------------------------- */

/* How long a daemon may say nothing before it is taken to be stopped, in milliseconds; 0: for ever. */
static long patience(void)
{
    const char *variable = setting("SCCACHE_DAEMON_SILENCE");
    if (variable == NULL)
        return SILENCE_SECONDS * 1000;
    unsigned long seconds = whole_number(variable);
    return (seconds == 0 && strcmp(variable, "0") != 0) || seconds > 999999 ? SILENCE_SECONDS * 1000 : (long)seconds * 1000;
}

/* Whether another call found it so. */
static bool is_noted(void)
{
    return access(text("%s.stuck", daemon_socket), F_OK) == 0;
}

/* From now on connecting, sending and receiving fail with EAGAIN after so long a time. */
static bool bound(int connection, long milliseconds)
{
    struct timeval limit = {milliseconds / 1000, milliseconds % 1000 * 1000};
    return milliseconds == 0 || (setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
                                 setsockopt(connection, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
}

/* A socket whose every step ends after so long a time; -1 if there is none to be had. */
static int bounded_socket(long milliseconds)
{
    int made = not_standard(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return made >= 0 && bound(made, milliseconds) ? made : -1;
}

static bool connects(int connection)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(daemon_socket) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address.sun_path, daemon_socket, strlen(daemon_socket) + 1);
    int failed;
    do
        failed = connect(connection, (struct sockaddr *)&address, sizeof address);
    while (failed != 0 && errno == EINTR);
    return failed == 0;
}

/* Whether the daemon is seen to run: it answers a question of its own, hangs up or refuses. One that is stopped does
 * none of these. */
static bool runs(long milliseconds)
{
    static const unsigned char ping[] = {0, 0, 0, 13, 'Q', 0, 0, 0, 4, 'p', 'i', 'n', 'g', 0, 0, 0, 0};
    unsigned char byte;
    int connection = bounded_socket(milliseconds);
    if (connection < 0)
        return true; /* nothing is known */
    ssize_t came = -1;
    if (connects(connection) && send(connection, ping, sizeof ping, MSG_NOSIGNAL) == (ssize_t)sizeof ping)
        do
            came = recv(connection, &byte, 1, 0);
        while (came < 0 && errno == EINTR);
    bool timed_out = came < 0 && errno == EAGAIN;
    close(connection);
    return !timed_out;
}

static void note_that_it_is_stuck(void)
{
    stuck = true;
    int noted = open(text("%s.stuck", daemon_socket), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (noted >= 0)
        close(noted);
}

/* Wait until the daemon says or takes more, as long as it runs: an answer may take as long as a compilation. False when
 * it is found to be stopped, with errno for it. */
static bool outlasts_silence(int connection, short event)
{
    long half = patience() / 2;
    for (;;) {
        bool noted = is_noted();
        struct pollfd ready = {.fd = connection, .events = event};
        int found = poll(&ready, 1, noted ? 0 : (int)half);
        if (found > 0)
            return true;
        if (found < 0)
            continue; /* a signal, or we were stopped ourselves */
        if (!runs(noted && half > FIRST_WAIT_MILLISECONDS ? FIRST_WAIT_MILLISECONDS : half)) {
            /* What came meanwhile counts more. */
            if (poll(&ready, 1, 0) > 0)
                return true;
            note_that_it_is_stuck();
            errno = ETIMEDOUT;
            return false;
        }
        if (noted)
            unlink(text("%s.stuck", daemon_socket));
    }
}

/* A connection to our own user's daemon, or -1. */
static int knock(void)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    long most = patience(), step = most / 2 < FIRST_WAIT_MILLISECONDS ? most / 2 : FIRST_WAIT_MILLISECONDS;
    if (daemon_socket == NULL)
        return -1;
    int connection = bounded_socket(step);
    if (connection < 0)
        return -1;
    for (long waited = step; !connects(connection); waited += step) {
        if (errno != EAGAIN)
            return -1;
        /* Nobody takes callers out of its queue, which is full. */
        if (waited >= most || is_noted()) {
            note_that_it_is_stuck();
            return -1;
        }
    }
    if (getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == getuid())
        return connection;
    return -1;
}

/* The R frame, or NULL when the cwd does not exist any more. */
static unsigned char *request(size_t *length)
{
    const char *cwd = getcwd(NULL, 0);
    if (cwd == NULL)
        return NULL;
    mode_t mask = umask(077);
    umask(mask);
    const char *decimal = text("%u", (unsigned)mask);
    size_t size = 4 * 4 + 1 + strlen(cwd) + strlen(decimal) + 1 + size_of_words(command) + size_of_words(environ);
    if (size > MAX_ANSWER)
        return NULL;
    unsigned char *frame, *to = begin_frame(&frame, 'R', size);
    to = put_field(to, "1", 1);
    to = put_field(to, cwd, strlen(cwd));
    to = put_field(to, decimal, strlen(decimal));
    to = put_field(to, isatty(STDERR_FILENO) ? "1" : "0", 1);
    to = put_words(to, command);
    to = put_words(to, environ);
    *length = (size_t)(to - frame);
    return frame;
}

/* --- local slots: see slow.py ------------------------------------------------------------------------------------ */

/* Make a directory that only we can use, or see that it is one. */
static bool is_private_directory(const char *path)
{
    struct stat found;
    if (mkdir(path, 0700) == 0)
        return true;
    return errno == EEXIST && lstat(path, &found) == 0 && (found.st_mode & (S_IFMT | 077)) == S_IFDIR &&
           found.st_uid == getuid();
}

static int open_lock(const char *path)
{
    return not_standard(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

/* Whether we run inside of a slot already, below a compiler that calls compilers. */
static bool holds_slot(const char *directory)
{
    char target[PATH_MAX];
    size_t length = strlen(directory);
    DIR *descriptors = opendir("/proc/self/fd");
    bool found = false;
    for (struct dirent *entry; !found && descriptors != NULL && (entry = readdir(descriptors)) != NULL;) {
        ssize_t size = readlinkat(dirfd(descriptors), entry->d_name, target, sizeof target);
        found = size > (ssize_t)length && memcmp(target, directory, length) == 0 && target[length] == '/';
    }
    if (descriptors != NULL)
        closedir(descriptors);
    return found;
}

/* How many there are: as the daemon noted beside its socket, else SCCACHE_LOCAL_SLOTS, else the cores. */
static unsigned long slot_count(void)
{
    char noted[17];
    const char *path = text("%s.slots", daemon_socket), *variable = setting("SCCACHE_LOCAL_SLOTS");
    bool is_told = access(path, R_OK) == 0;
    noted[first_bytes(path, noted, sizeof noted - 1)] = '\0';
    unsigned long count = is_told ? whole_number(noted) : variable ? whole_number(variable) : 0;
    for (int cores = 1024; count == 0 && cores < 1 << 20; cores *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cores);
        if (set != NULL && sched_getaffinity(0, CPU_ALLOC_SIZE((size_t)cores), set) == 0)
            count = (unsigned long)CPU_COUNT_S(CPU_ALLOC_SIZE((size_t)cores), set);
    }
    return count == 0 ? 1 : count < MAX_SLOTS ? count : MAX_SLOTS;
}

/* Whether a slot, opened when it is first tried, is ours now; false with errno for what went wrong. */
static bool took(int *slot, const char *directory, unsigned long number)
{
    if (*slot < 0)
        *slot = open_lock(text("%s/%lu", directory, number));
    return *slot >= 0 && flock(*slot, LOCK_EX | LOCK_NB) == 0;
}

/* Wait until a slot is ours, preferably number ``first``; false if there are none to be had. The descriptor stays
 * open and is inherited. Only the holder of the turnstile polls: a hundred who wait cost no more than one. */
static bool take_slot(unsigned long first)
{
    const char *base = text("/tmp/sccache-twisted-%lu", (unsigned long)getuid()), *directory = text("%s/slots", base);
    if (!is_private_directory(base) || !is_private_directory(directory))
        return false;
    if (holds_slot(directory))
        return true;
    unsigned long count = slot_count(), number;
    int *slots = memory(count, sizeof *slots), turnstile = -1;
    for (number = 0; number < count; number++)
        slots[number] = -1;
    for (;;) {
        for (number = 0; number < count; number++) {
            if (took(&slots[number], directory, (first + number) % count)) {
                int taken = slots[number];
                for (number = 0; number < count; number++)
                    if (slots[number] >= 0 && slots[number] != taken)
                        close(slots[number]);
                if (turnstile >= 0)
                    close(turnstile);
                return fcntl(taken, F_SETFD, 0) == 0;
            }
            if (errno != EWOULDBLOCK)
                return false;
        }
        if (turnstile < 0) {
            turnstile = open_lock(text("%s/turnstile", directory));
            if (turnstile < 0 || flock(turnstile, LOCK_EX) != 0)
                return false;
        } else {
            nanosleep(&(struct timespec){0, SLOT_POLL_NANOSECONDS}, NULL);
        }
    }
}

/* --- a compiler as our child ------------------------------------------------------------------------------------- */

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};
static volatile sig_atomic_t child, asked;

static void pass_on(int number)
{
    int kept = errno;
    if (asked == 0)
        asked = number;
    if (child > 0)
        kill(child, number);
    errno = kept;
}

/* Its output goes to memory files and not to pipes: nothing can fill up, and a grandchild that stays behind holds
 * nobody. */
static struct bytes content(int file)
{
    struct stat found;
    size_t have = 0, size = fstat(file, &found) == 0 ? (size_t)found.st_size : 0;
    unsigned char *data = memory(size, 1);
    while (have < size) {
        ssize_t came = pread(file, data + have, size - have, (off_t)have);
        if (came <= 0)
            break;
        have += (size_t)came;
    }
    return (struct bytes){data, have};
}

/* Run it with everything of ours but its output: the shell's status. Signals that ask us to end are passed on, and
 * then end us too. Becomes the compiler if there is no other way. */
static int run_child(const char *executable, char **argv, struct bytes *out, struct bytes *err)
{
    int files[2] = {not_standard(memfd_create("stdout", MFD_CLOEXEC)), -1};
    files[1] = not_standard(memfd_create("stderr", MFD_CLOEXEC));
    sigset_t ending, before;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (files[0] < 0 || files[1] < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, files[0], STDOUT_FILENO) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, files[1], STDERR_FILENO) != 0 ||
        posix_spawnattr_init(&attributes) != 0)
        execute(executable, argv);
    char **environment = guarded(executable);
    /* From before the child starts: a signal that comes in between must not end us and leave the child behind. */
    sigemptyset(&ending);
    for (size_t position = 0; position < sizeof ending_signals / sizeof *ending_signals; position++) {
        struct sigaction action;
        sigaction(ending_signals[position], NULL, &action);
        if (action.sa_handler != SIG_IGN)
            sigaddset(&ending, ending_signals[position]);
    }
    sigprocmask(SIG_BLOCK, &ending, &before);
    for (size_t position = 0; position < sizeof ending_signals / sizeof *ending_signals; position++)
        if (sigismember(&ending, ending_signals[position])) {
            struct sigaction action = {.sa_handler = pass_on};
            sigemptyset(&action.sa_mask);
            sigaction(ending_signals[position], &action, NULL);
        }
    posix_spawnattr_setsigmask(&attributes, &before);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t started;
    int failed = posix_spawn(&started, executable, &actions, &attributes, argv, environment);
    child = failed ? 0 : started;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (failed)
        execute(executable, argv);
    /* Not reaped while signals may still be passed on: its number must not become another's. */
    siginfo_t ended;
    while (waitid(P_PID, (id_t)started, &ended, WEXITED | WNOWAIT) != 0 && errno == EINTR)
        continue;
    sigprocmask(SIG_BLOCK, &ending, NULL);
    child = 0;
    int status = 0;
    while (waitpid(started, &status, 0) < 0 && errno == EINTR)
        continue;
    for (size_t position = 0; position < sizeof ending_signals / sizeof *ending_signals; position++)
        if (sigismember(&ending, ending_signals[position]))
            signal(ending_signals[position], SIG_DFL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (asked != 0)
        kill(getpid(), asked);
    *out = content(files[0]);
    *err = content(files[1]);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- the three answers ------------------------------------------------------------------------------------------- */

static _Noreturn void show_and_exit(int status, struct bytes out, struct bytes err)
{
    show(STDOUT_FILENO, out.at, out.length);
    show(STDERR_FILENO, err.at, err.length);
    _exit(status);
}

/* A D answer; comes back if it can't be understood. */
static void done(struct reader body)
{
    unsigned long status = read_decimal(&body);
    struct bytes out = read_field(&body), err = read_field(&body);
    if (was_understood(&body))
        show_and_exit((int)(status & 0xff), out, err);
}

/* An X answer; comes back if it can't be understood. */
static void run_yourself(struct reader body)
{
    char *executable = read_word(&body);
    char **argv = read_words(&body);
    read_field(&body); /* the reason is the log's */
    struct bytes said = read_field(&body);
    if (was_understood(&body)) {
        show(STDERR_FILENO, said.at, said.length);
        execute(executable, argv);
    }
}

/* An S answer: run it in a slot, report, show what comes back. Comes back if it can't be understood. */
static void run_in_slot(struct reader body, int connection)
{
    unsigned long slot = read_decimal(&body);
    char *executable = read_word(&body);
    char **argv = read_words(&body);
    if (!was_understood(&body))
        return;
    if (!take_slot(slot))
        hand_over(NULL); /* which finds the same, and can say so in the log */
    struct bytes out, err;
    int status = run_child(executable, argv, &out, &err);
    const char *decimal = text("%d", status);
    size_t size = 3 * 4 + strlen(decimal) + out.length + err.length;
    struct reader answer;
    if (size < MAX_ANSWER) {
        unsigned char *frame, *to = begin_frame(&frame, 'C', size);
        to = put_field(to, decimal, strlen(decimal));
        to = put_field(to, out.at, out.length);
        to = put_field(to, err.at, err.length);
        if (send_all(connection, frame, (size_t)(to - frame)) && receive(connection, &answer) == NULL && *answer.at++ == 'D')
            done(answer);
    }
    show_and_exit(status, out, err);
}

static _Noreturn void call(void)
{
    daemon_socket = socket_path();
    int connection = knock();
    size_t length;
    if (stuck)
        hand_over(SILENT);
    unsigned char *asking = connection < 0 ? NULL : request(&length);
    if (asking == NULL)
        hand_over(NULL);
    struct reader body;
    const char *problem = send_all(connection, asking, length) ? receive(connection, &body) : strerror(errno);
    if (problem == NULL) {
        unsigned char kind = *body.at++;
        if (kind == 'D')
            done(body);
        else if (kind == 'X')
            run_yourself(body);
        else if (kind == 'S')
            run_in_slot(body, connection);
        problem = "its answer makes no sense";
    }
    hand_over(stuck ? SILENT : text("the daemon went away: %s", problem));
}

/* Whether this program, built for this machine, can do what a call needs; no socket, no daemon. */
static int self_test(void)
{
    static char *words[] = {"gcc", "", NULL};
    unsigned char *frame, *to = begin_frame(&frame, 'S', size_of_words(words));
    to = put_words(to, words);
    struct reader back = {frame + 5, to, false};
    char **found = read_words(&back);
    struct bytes nothing = {NULL, 0}, out = nothing, err = nothing;
    char *line[] = {"sh", "-c", "echo out; echo err >&2; exit 7", NULL};
    int status = run_child("/bin/sh", line, &out, &err);
    if (!was_understood(&back) || strcmp(found[0], "gcc") != 0 || *found[1] != '\0' || status != 7 ||
        out.length != 4 || memcmp(out.at, "out\n", 4) != 0 || err.length != 4 || memcmp(err.at, "err\n", 4) != 0)
        return 1;
    show(STDOUT_FILENO, (const unsigned char *)MARK " " DIGEST "\n", sizeof MARK " " DIGEST);
    return 0;
}

int main(int argc, char **argv)
{
    char **room = calloc((size_t)argc + 5, sizeof *room);
    if (room == NULL || argc < 1)
        return 1;
    command = room + 3;
    const char *name = base_name(argv[0]);
    bool by_name = is_one_of(name, myself);
    size_t skipped = by_name ? 1 : 0;
    memcpy(command, argv + skipped, ((size_t)argc - skipped) * sizeof *argv);
    if (!by_name)
        command[0] = (char *)name;
    compiles = !by_name || (argc > 1 && *argv[1] != '-' && !is_one_of(argv[1], subcommands));
    if (by_name && argc == 2 && strcmp(argv[1], "--self-test") == 0)
        return self_test();
    if (!compiles)
        hand_over(NULL);
    if (setting(GUARD) != NULL)
        execute_real(command);
    call();
}
