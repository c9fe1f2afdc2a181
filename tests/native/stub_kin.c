/*
 * libvnpu.so and, with -DAUDIT, libamvgpu.so for tests: the environment contracts of HAMi's libraries for Ascend
 * and AMD cards without their runtimes.
 *
 * Purpose: that a limit reached a container counts only if the loader put the library into the process, and the
 * library found its variables. This one opens the region that its variable names, fills in the limit where the
 * real one has it, and writes into a file beside it, one a line, all variables of the contract that it found.
 *
 * Flow: the loader runs the constructor (a list in /etc/ld.so.preload) or la_version (LD_AUDIT) -> /proc/self/
 * environ, since an auditing library has an environment of its own -> the region, which stays mapped.
 *
 * Limits: of the regions there is what stands before the first limit, and that limit; nothing is intercepted. Real
 * ones open their region when the first process comes to its card, or some seconds after its start.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SIZE 4096

#ifdef AUDIT
static const char *const prefixes[] = {"HIP_DEVICE_MEMORY_"};
static const char region[] = "HIP_DEVICE_MEMORY_SHARED_CACHE=";
static const char limit[] = "HIP_DEVICE_MEMORY_LIMIT_0=";

struct head {
    int32_t magic;
    sem_t semaphore;
    size_t owner;
    uint64_t cards;
    uint64_t limit;
};
#else
static const char *const prefixes[] = {"NPU_"};
static const char region[] = "NPU_LOCAL_SHM_PATH=";
static const char limit[] = "NPU_MEM_QUOTA=";

struct head {
    uint64_t limit;
};
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

static void write_found(const char *region_path, const char *found, size_t length)
{
    char path[SIZE];
    if (snprintf(path, sizeof(path), "%s.variables", region_path) >= (int)sizeof(path))
        return;
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0)
        return;
    if (write(file, found, length) != (ssize_t)length)
        unlink(path);
    close(file);
}

static void start(void)
{
    char found[SIZE] = "";
    const char *path = NULL;
    uint64_t mib = 0;
    size_t length = read_environment(), used = 0;
    for (char *entry = environment; entry < environment + length; entry += strlen(entry) + 1) {
        if (strncmp(entry, region, strlen(region)) == 0)
            path = entry + strlen(region);
        if (strncmp(entry, limit, strlen(limit)) == 0)
            mib = strtoull(entry + strlen(limit), NULL, 10);
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
    if (at == MAP_FAILED)
        return;
    struct head *head = (struct head *)at;
    head->limit = mib << 20;
#ifdef AUDIT
    head->magic = 0x484D4932;
#endif
    write_found(path, found, used);
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
