/*
 * libvnpu.so and, with -DAUDIT, libamvgpu.so for tests: the environment contracts of HAMi's libraries for Ascend
 * and AMD cards without their runtimes.
 *
 * Purpose: that a limit reached a container counts only if the loader put the library into the process, and the
 * library found its variables. This one opens the region that its variable names and writes into it, one a line,
 * all variables of the contract that it found.
 *
 * Flow: the loader runs the constructor (a list in /etc/ld.so.preload) or la_version (LD_AUDIT) -> /proc/self/
 * environ, since an auditing library has an environment of its own -> the region, which stays mapped.
 *
 * Limits: the region's layout is of none of the libraries; nothing is intercepted. Real ones open their region
 * when the first process comes to its card.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SIZE 4096

#ifdef AUDIT
static const char *const prefixes[] = {"HIP_DEVICE_MEMORY_"};
static const char region[] = "HIP_DEVICE_MEMORY_SHARED_CACHE=";
#else
static const char *const prefixes[] = {"NPU_"};
static const char region[] = "NPU_LOCAL_SHM_PATH=";
#endif

static char environment[1 << 16];

static size_t read_environment(void)
{
    int file = open("/proc/self/environ", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t got;
    if (file < 0)
        return 0;
    while ((got = read(file, environment + length, sizeof(environment) - 1 - length)) > 0)
        length += (size_t)got;
    close(file);
    return length;
}

static void start(void)
{
    char found[SIZE] = "";
    const char *path = NULL;
    size_t length = read_environment(), used = 0;
    for (char *entry = environment; entry < environment + length; entry += strlen(entry) + 1) {
        if (strncmp(entry, region, strlen(region)) == 0)
            path = entry + strlen(region);
        size_t size = strlen(entry);
        for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++)
            if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0 && used + size + 2 < SIZE) {
                memcpy(found + used, entry, size);
                found[used + size] = '\n';
                used += size + 1;
            }
    }
    if (path == NULL)
        return;
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0 || ftruncate(file, SIZE) != 0)
        return;
    char *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (at != MAP_FAILED)
        memcpy(at, found, SIZE);
}

#ifdef AUDIT
EXPORT unsigned int la_version(unsigned int version)
{
    start();
    return version;
}
#else
__attribute__((constructor)) static void loaded(void) { start(); }
#endif
