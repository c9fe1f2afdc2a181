/*
 * Says as one line of JSON what its container really has; then waits for SIGTERM, or ends at once with --once.
 *
 * Purpose: the program in the containers of the cluster tests. Limits are asked of the preloaded library in
 * this very process, never read from the environment; device nodes come from /dev, mounts from the kernel.
 *
 *   {"library": true, "conflict": false, "opened": 1, "corePolicy": "force",
 *    "cards": [{"vendor": "nvidia", "index": 0, "card": "GPU-...", "memoryBytes": 4294967296, "cores": 30}],
 *    "stray": [], "devices": ["/dev/dragoman/nvidia-..."], "mounts": [{"target": "/etc/ld.so.preload", ...}],
 *    "env": ["PATH", ...]}
 *
 * It uses its cards as a CUDA program would: opens the device nodes below /dev/dragoman and makes the library's
 * first call, unless DRAGOMAN_PROBE=idle. With DRAGOMAN_PROBE=busy it launches kernels all the time; with
 * DRAGOMAN_PROBE=waits it does nothing but wait for SIGUSR1 and uses its cards then.
 *
 * `memoryBytes` and `cores` are null where nothing limits; `cards` are the simulated cards in each vendor's own
 * order; `stray` are positions that have a limit but no card. Every container gets /dev/null, /dev/tty and
 * their like from its runtime: these are left out of `devices`.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CARDS 64
#define POSITIONS 16
#define PREFIX "DRAGOMAN_SIMULATED_CARD_"

extern char **environ;

static uint64_t (*memory_limit)(int);
static uint64_t (*sm_limit)(int);

static void text(const char *value, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void words(const char *value) { text(value, strlen(value)); }

static void limits(int position)
{
    uint64_t memory = memory_limit ? memory_limit(position) : 0;
    uint64_t cores = sm_limit ? sm_limit(position) : 100;
    printf("\"memoryBytes\": ");
    memory ? printf("%" PRIu64, memory) : printf("null");
    printf(", \"cores\": ");
    cores && cores < 100 ? printf("%" PRIu64, cores) : printf("null");
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void cards(void)
{
    char *found[CARDS];
    size_t count = 0;
    for (char **entry = environ; *entry && count < CARDS; entry++) {
        char *value = strchr(*entry, '=');
        if (strncmp(*entry, PREFIX, strlen(PREFIX)) == 0 && value)
            found[count++] = strdup(value + 1);
    }
    qsort(found, count, sizeof(*found), by_text);
    char vendor[32] = "";
    int position = -1, most = 0;
    printf("\"cards\": [");
    for (size_t i = 0; i < count; i++) {
        char *its = strtok(found[i], " "), *key = strtok(NULL, " "), *card = strtok(NULL, " ");
        if (!its || !key || !card) {
            fprintf(stderr, "probe: a variable %s* is not understood\n", PREFIX);
            exit(EXIT_FAILURE);
        }
        position = strcmp(vendor, its) == 0 ? position + 1 : 0;
        snprintf(vendor, sizeof(vendor), "%s", its);
        most = position + 1 > most ? position + 1 : most;
        printf("%s{\"vendor\": ", i ? ", " : "");
        words(its);
        printf(", \"index\": %d, \"card\": ", position);
        words(card);
        printf(", ");
        limits(position);
        printf("}");
    }
    printf("], \"stray\": [");
    for (int i = most, first = 1; i < POSITIONS; i++) {
        if (!memory_limit || (memory_limit(i) == 0 && sm_limit(i) % 100 == 0))
            continue;
        printf("%s{\"index\": %d, ", first ? "" : ", ", i);
        limits(i);
        printf("}");
        first = 0;
    }
    printf("]");
}

static int standard(const char *path)
{
    static const char *const known[] = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", NULL};
    for (int i = 0; known[i]; i++)
        if (strcmp(path, known[i]) == 0)
            return 1;
    return strncmp(path, "pts/", 4) == 0 || strncmp(path, "shm/", 4) == 0 || strncmp(path, "mqueue/", 7) == 0;
}

static void devices(const char *folder, int *first)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[4096];
        struct stat found;
        snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..") && lstat(path, &found) == 0) {
            if (S_ISDIR(found.st_mode)) {
                devices(path, first);
            } else if ((S_ISCHR(found.st_mode) || S_ISBLK(found.st_mode)) && !standard(path + strlen("/dev/"))) {
                printf("%s", *first ? "" : ", ");
                words(path);
                *first = 0;
            }
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

static void mounts(void)
{
    FILE *file = fopen("/proc/self/mountinfo", "r");
    char *line = NULL;
    size_t size = 0;
    int first = 1;
    printf("\"mounts\": [");
    while (file && getline(&line, &size, file) > 0) {
        char root[4096], target[4096], options[1024], type[256] = "";
        if (sscanf(line, "%*s %*s %*s %4095s %4095s %1023s", root, target, options) != 3)
            continue;
        char *rest = strstr(line, " - ");
        if (rest)
            sscanf(rest, " - %255s", type);
        printf("%s{\"root\": ", first ? "" : ", ");
        words(root);
        printf(", \"target\": ");
        words(target);
        printf(", \"options\": ");
        words(options);
        printf(", \"type\": ");
        words(type);
        printf("}");
        first = 0;
    }
    printf("]");
    free(line);
    if (file)
        fclose(file);
}

static void environment(void)
{
    printf("\"env\": [");
    for (char **entry = environ; *entry; entry++) {
        printf("%s", entry == environ ? "" : ", ");
        text(*entry, strcspn(*entry, "="));
    }
    printf("]");
}

static void open_cards(void)
{
    struct dirent **entries;
    int count = scandir("/dev/dragoman", &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "/dev/dragoman/%s", entries[i]->d_name);
        /* Held open for as long as the process lives. */
        if (entries[i]->d_name[0] != '.' && open(path, O_RDWR | O_CLOEXEC) < 0)
            perror(path);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    const char *mode = getenv("DRAGOMAN_PROBE");
    mode = mode ? mode : "";
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGUSR1);
    /* Process 1 of a container is not ended by a signal that it does not handle. */
    sigprocmask(SIG_BLOCK, &ends, NULL);

    memory_limit = (uint64_t(*)(int))dlsym(RTLD_DEFAULT, "dragoman_stub_memory_limit");
    sm_limit = (uint64_t(*)(int))dlsym(RTLD_DEFAULT, "dragoman_stub_sm_limit");
    int (*policy)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "dragoman_stub_core_policy");
    int (*conflict)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "dragoman_stub_conflict");
    uint32_t (*opened)(void) = (uint32_t(*)(void))dlsym(RTLD_DEFAULT, "dragoman_stub_opened");
    void (*use)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "dragoman_stub_use");
    void (*launch)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "dragoman_stub_launch");
    static const char *const policies[] = {"", "force", "disable"};

    int number = 0;
    if (strcmp(mode, "waits") == 0)
        while (number != SIGUSR1 && sigwait(&ends, &number) == 0)
            if (number != SIGUSR1)
                return 0;
    if (strcmp(mode, "idle") != 0) {
        open_cards();
        if (use)
            use();
    }

    printf("{\"library\": %s, ", memory_limit ? "true" : "false");
    printf("\"conflict\": %s, ", conflict && conflict() ? "true" : "false");
    printf("\"opened\": %u, ", opened ? opened() : 0);
    printf("\"corePolicy\": \"%s\", ", policy ? policies[policy()] : "");
    cards();
    printf(", \"devices\": [");
    int first = 1;
    devices("/dev", &first);
    printf("], ");
    mounts();
    printf(", ");
    environment();
    printf("}\n");
    fflush(stdout);

    if (argc > 1 && strcmp(argv[1], "--once") == 0)
        return 0;
    const struct timespec second = {1, 0};
    if (strcmp(mode, "busy") == 0 && launch)
        while (launch(), number = sigtimedwait(&ends, NULL, &second), number < 0 || number == SIGUSR1)
            ;
    else
        while (sigwait(&ends, &number) == 0 && number == SIGUSR1)
            ;
    return 0;
}
