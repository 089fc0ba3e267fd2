#include "attack.h"

struct target target;

int reads(const char *path) {
    int fd = open(path, O_RDONLY | O_NONBLOCK);
    char byte;
    if (fd < 0) return -1;
    int got = read(fd, &byte, 1) > 0 || errno == EISDIR;
    close(fd);
    return got ? 0 : -1;
}

int writes(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK, 0600);
    if (fd >= 0) close(fd);
    return fd;
}

const char *in(const char *directory, const char *name) {
    static char made[8][4096];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(made[turn], sizeof made[turn], "%s/%s", directory, name);
    return made[turn];
}

void put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) printf("could not write %s\n", path);
    if (fd >= 0) close(fd);
}

static int run(char **words) {
    const struct attack *all[] = {of_files, of_outputs, of_kernel, of_processes};
    for (int i = 0; i < 4; i++)
        for (const struct attack *one = all[i]; one->name; one++)
            if (!strcmp(one->name, words[0])) {
                target = (struct target){words[1], atoi(words[2]), atoi(words[3]), words[4], words[5], atoi(words[6])};
                one->run();
                puts("ENDED");
                return 0;
            }
    return 3;
}

/* Run as "attack NAME TARGET...", or in a compiler's place, told by the environment what to do. */
int main(int argc, char **argv) {
    char *words[7] = {0}, *said = getenv("HOSTILE");
    if (!said) return argc < 8 ? 2 : run(argv + 1);
    for (int i = 0; i < 7; i++) words[i] = strtok(i ? 0 : said, "\n");
    return words[6] ? run(words) : 2;
}
