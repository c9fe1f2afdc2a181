/*
 * libvgpu.so for tests: HAMi-core's environment contract without CUDA.
 *
 * Purpose: cluster tests have no card, yet a limit counts only if it is seen from inside the library that the
 * loader put into the process. This one reads the same variables with the same fallbacks, keeps the limits in
 * the same kind of shared region (fixed by the first process that opens it), and exports what it found.
 *
 * Contract: CUDA_DEVICE_MEMORY_LIMIT[_n] (number + g, m, k or bytes), CUDA_DEVICE_SM_LIMIT[_n] (percent),
 * CUDA_DEVICE_MEMORY_SHARED_CACHE (path), GPU_CORE_UTILIZATION_POLICY (force, disable). A limit that is unset,
 * empty, unparsable or 0 falls back to the one without an index, and then to no limit.
 *
 * Limits: the region's layout is not HAMi-core's; nothing is intercepted, nothing throttled. Where the real
 * library opens its region at the first CUDA call, this one does so at load, so that no test misses it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CARDS 16
#define MAGIC 0x44524147u
#define EXPORT __attribute__((visibility("default")))

struct region {
    uint32_t magic;
    uint32_t opened;
    uint64_t memory[CARDS];
    uint64_t cores[CARDS];
};

static struct region *region;
static int conflict;

static uint64_t amount(const char *name)
{
    const char *text = getenv(name);
    if (text == NULL || *text == '\0')
        return 0;
    uint64_t scale = 1;
    switch (text[strlen(text) - 1]) {
    case 'g': case 'G': scale = 1ull << 30; break;
    case 'm': case 'M': scale = 1ull << 20; break;
    case 'k': case 'K': scale = 1ull << 10; break;
    default: break;
    }
    uint64_t number = strtoull(text, NULL, 0);
    if (number != 0 && number * scale / scale != number)
        return 0;
    return number * scale;
}

static void read_limits(const char *base, uint64_t none, uint64_t *limits)
{
    uint64_t fallback = amount(base);
    for (int card = 0; card < CARDS; card++) {
        char name[64];
        snprintf(name, sizeof(name), "%s_%d", base, card);
        uint64_t own = amount(name);
        limits[card] = own != 0 ? own : fallback != 0 ? fallback : none;
    }
}

static void give_up(const char *what, const char *path)
{
    fprintf(stderr, "libvgpu (stub): cannot %s the shared region %s: %s\n", what, path, strerror(errno));
    _exit(EXIT_FAILURE);
}

__attribute__((constructor)) static void load(void)
{
    const char *path = getenv("CUDA_DEVICE_MEMORY_SHARED_CACHE");
    if (path == NULL)
        path = "/tmp/cudevshr.cache";
    mode_t old = umask(0);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    umask(old);
    if (file < 0)
        give_up("open", path);
    if (lockf(file, F_LOCK, 0) != 0)
        give_up("lock", path);
    if (ftruncate(file, sizeof(struct region)) != 0)
        give_up("size", path);
    region = mmap(NULL, sizeof(struct region), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (region == MAP_FAILED)
        give_up("map", path);
    struct region mine = {0};
    read_limits("CUDA_DEVICE_MEMORY_LIMIT", 0, mine.memory);
    read_limits("CUDA_DEVICE_SM_LIMIT", 100, mine.cores);
    if (region->magic != MAGIC) {
        memcpy(region->memory, mine.memory, sizeof(mine.memory));
        memcpy(region->cores, mine.cores, sizeof(mine.cores));
        region->magic = MAGIC;
    }
    conflict = memcmp(region->memory, mine.memory, sizeof(mine.memory)) != 0 ||
               memcmp(region->cores, mine.cores, sizeof(mine.cores)) != 0;
    if (conflict)
        fprintf(stderr, "libvgpu (stub): the limits of %s are those of an earlier process\n", path);
    region->opened++;
    if (lockf(file, F_ULOCK, 0) != 0)
        give_up("unlock", path);
    close(file);
}

/* Memory limit of a card in bytes; 0 = none. */
EXPORT uint64_t dragoman_stub_memory_limit(int card)
{
    return card >= 0 && card < CARDS ? region->memory[card] : 0;
}

/* Cap on compute of a card in percent; 100 = none. */
EXPORT uint64_t dragoman_stub_sm_limit(int card)
{
    return card >= 0 && card < CARDS ? region->cores[card] : 100;
}

/* 1 = always throttled, 2 = never, 0 = left to a monitor. */
EXPORT int dragoman_stub_core_policy(void)
{
    const char *policy = getenv("GPU_CORE_UTILIZATION_POLICY");
    if (policy == NULL)
        return 0;
    if (strcmp(policy, "force") == 0 || strcmp(policy, "FORCE") == 0)
        return 1;
    return strcmp(policy, "disable") == 0 || strcmp(policy, "DISABLE") == 0 ? 2 : 0;
}

/* Whether an earlier process had fixed other limits than this one's environment says. */
EXPORT int dragoman_stub_conflict(void) { return conflict; }

/* How many processes have opened the region so far, this one included. */
EXPORT uint32_t dragoman_stub_opened(void) { return region->opened; }
