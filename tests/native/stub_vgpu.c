/*
 * libvgpu.so for tests: HAMi-core's environment contract and its shared region, without CUDA.
 *
 * Purpose: cluster tests have no card, yet a limit counts only if it is seen from inside the library that the
 * loader put into the process. This one reads the same variables with the same fallbacks, keeps the limits in
 * a shared region of the same layout (fixed by the first process that opens it), and exports what it found.
 *
 * Contract: CUDA_DEVICE_MEMORY_LIMIT[_n] (number + g, m, k or bytes), CUDA_DEVICE_SM_LIMIT[_n] (percent),
 * CUDA_DEVICE_MEMORY_SHARED_CACHE (path), GPU_CORE_UTILIZATION_POLICY (force, disable), CUDA_TASK_PRIORITY. A
 * limit that is unset, empty, unparsable or 0 falls back to the one without an index, and then to no limit.
 *
 * For tests alone: DRAGOMAN_STUB=lazy opens the region when dragoman_stub_use() is called and not at load;
 * DRAGOMAN_STUB=idle never; DRAGOMAN_STUB_USE_n="bytes percent" is what the process claims to use of card n.
 *
 * A launch waits while `recent_kernel` is below 0, as in the real one.
 *
 * Limits: nothing is intercepted, nothing throttled, one card waits for all. Where the real library opens its region at the first CUDA
 * or NVML call, this one does so at load unless it is told otherwise, so that no test misses it.
 */
#define _GNU_SOURCE
#include "region.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

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

/* How many have opened the region: where the real one has a spare number of the last process' slot. */
static uint64_t *opened(void) { return &region->slots[PROCESSES - 1].spare[0]; }

static void take_slot(void)
{
    int count = region->processes;
    struct slot *mine = &region->slots[count % PROCESSES];
    for (int i = 0; i < count; i++)
        if (region->slots[i].pid == getpid())
            mine = &region->slots[i];
    if (mine == &region->slots[count % PROCESSES] && count < PROCESSES)
        region->processes = count + 1;
    mine->pid = getpid();
    mine->status = 1;
    for (int card = 0; card < CARDS; card++) {
        char name[64];
        uint64_t bytes = 0, percent = 0;
        snprintf(name, sizeof(name), "DRAGOMAN_STUB_USE_%d", card);
        const char *text = getenv(name);
        if (text != NULL && sscanf(text, "%" SCNu64 " %" SCNu64, &bytes, &percent) < 1)
            fprintf(stderr, "libvgpu (stub): %s is not understood\n", name);
        mine->used[card].data = mine->used[card].total = bytes;
        mine->load[card].compute = percent;
    }
}

static void open_region(void)
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
    if (ftruncate(file, sizeof(struct region) + 1) != 0)
        give_up("size", path);
    region = mmap(NULL, sizeof(struct region), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (region == MAP_FAILED)
        give_up("map", path);
    uint64_t memory[CARDS], cores[CARDS];
    read_limits("CUDA_DEVICE_MEMORY_LIMIT", 0, memory);
    read_limits("CUDA_DEVICE_SM_LIMIT", 100, cores);
    if (region->magic != MAGIC) {
        region->major = 1;
        region->minor = 2;
        memcpy(region->memory, memory, sizeof(memory));
        memcpy(region->cores, cores, sizeof(cores));
        const char *priority = getenv("CUDA_TASK_PRIORITY");
        region->priority = priority ? atoi(priority) : 1;
        region->utilization_switch = 1;
        region->recent_kernel = 2;
        __sync_synchronize();
        region->magic = MAGIC;
    }
    conflict = memcmp(region->memory, memory, sizeof(memory)) != 0 ||
               memcmp(region->cores, cores, sizeof(cores)) != 0;
    if (conflict)
        fprintf(stderr, "libvgpu (stub): the limits of %s are those of an earlier process\n", path);
    take_slot();
    region->last_kernel = (uint64_t)time(NULL);
    ++*opened();
    if (lockf(file, F_ULOCK, 0) != 0)
        give_up("unlock", path);
    close(file);
}

__attribute__((constructor)) static void load(void)
{
    const char *when = getenv("DRAGOMAN_STUB");
    if (when == NULL || *when == '\0')
        open_region();
}

__attribute__((destructor)) static void unload(void)
{
    for (int i = 0; region != NULL && i < region->processes; i++)
        if (region->slots[i].pid == getpid())
            region->slots[i].pid = 0;
}

/* What the first CUDA call does: opens the region, unless that was done, or is not to be. */
EXPORT void dragoman_stub_use(void)
{
    const char *when = getenv("DRAGOMAN_STUB");
    if (region == NULL && (when == NULL || strcmp(when, "idle") != 0))
        open_region();
}

/* Whether launches are slowed down now: 1 = yes, 0 = no. */
EXPORT int dragoman_stub_throttled(void)
{
    const char *policy = getenv("GPU_CORE_UTILIZATION_POLICY");
    if (policy != NULL && strcasecmp(policy, "force") == 0)
        return 1;
    if (policy != NULL && strcasecmp(policy, "disable") == 0)
        return 0;
    return region == NULL || region->utilization_switch != 0;
}

/* How many kernels were launched: where the real one has another spare number of the last process' slot. */
static uint64_t *launched(void) { return &region->slots[PROCESSES - 1].spare[1]; }

/*
 * What a launch of a kernel does, in the order of the real one: it is noted first, and only who has a cap that
 * holds now looks whether he has to wait.
 */
EXPORT void dragoman_stub_launch(void)
{
    dragoman_stub_use();
    if (region == NULL)
        return;
    region->last_kernel = (uint64_t)time(NULL);
    if (region->cores[0] > 0 && region->cores[0] < 100 && dragoman_stub_throttled()) {
        while (*(volatile int32_t *)&region->recent_kernel < 0)
            sleep(1);
        region->recent_kernel = 2;
    }
    ++*launched();
}

/* Memory limit of a card in bytes; 0 = none. */
EXPORT uint64_t dragoman_stub_memory_limit(int card)
{
    return region != NULL && card >= 0 && card < CARDS ? region->memory[card] : 0;
}

/* Cap on compute of a card in percent; 100 = none. */
EXPORT uint64_t dragoman_stub_sm_limit(int card)
{
    return region != NULL && card >= 0 && card < CARDS ? region->cores[card] : 100;
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
EXPORT uint32_t dragoman_stub_opened(void) { return region != NULL ? (uint32_t)*opened() : 0; }
