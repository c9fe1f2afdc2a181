/* dragoman-hook-nvml: the same as dragoman-hook, by NVIDIA's own accounting of memory for kernels without `dmem`.
 *
 * Purpose: from release 615 on NVIDIA's driver counts memory by cgroup also where the kernel has no controller for it,
 * and takes limits through NVML with the path of a cgroup.
 *
 *     dragoman-hook-nvml nvml --root=/sys/fs/cgroup --gpu=GPU-6ca02a4c-... --bytes=1073741824
 *
 * Flow: arguments -> OCI state -> the container's cgroup -> nvmlDeviceSetMemoryLimits_v1 (soft 0, hard BYTES) ->
 * nvmlDeviceGetMemoryLimits_v1 has to answer the same.
 *
 * Limits:
 * - Loaded by the node's own loader together with the driver's library, so it needs a node with glibc; that library
 *   does as well. It uses no symbol of glibc that is newer than 2.17, which is why it brings its own _start: that of
 *   today's compilers asks for 2.34.
 * - The soft limit is 0: a reservation would stay in the parents when the cgroup goes.
 *
 * Source of names and structures: nvidia-ml-py 13.615 (NVIDIA's own binding).
 */

#include "container.h"

#include <stdlib.h>

#define NVML_SUCCESS 0

struct limits_to_set {
    const char *name_space;
    unsigned long long soft, hard;
};

struct limits_found {
    const char *name_space;
    unsigned long long soft, hard, used;
};

int nvmlInit_v2(void);
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device);
int nvmlDeviceSetMemoryLimits_v1(void *device, struct limits_to_set *limits);
int nvmlDeviceGetMemoryLimits_v1(void *device, struct limits_found *limits);
const char *nvmlErrorString(int code);

static void must(int code, const char *what)
{
    if (code != NVML_SUCCESS)
        fail("%s: %s.", what, nvmlErrorString(code));
}

static void limit_memory(const char *gpu, const char *cgroup, uint64_t bytes)
{
    void *device = NULL;
    must(nvmlInit_v2(), "NVIDIA's management library cannot be used");
    must(nvmlDeviceGetHandleByUUID(gpu, &device), "the card is not on this node (any more)");
    struct limits_to_set wanted = {cgroup, 0, bytes};
    must(nvmlDeviceSetMemoryLimits_v1(device, &wanted), "the memory limit of the card cannot be set");
    struct limits_found found = {cgroup, 0, 0, 0};
    must(nvmlDeviceGetMemoryLimits_v1(device, &found), "the memory limit of the card cannot be read back");
    if (found.hard != bytes)
        fail("the memory limit of card %s is not in force: it reads %llu, not %llu bytes.", gpu, found.hard,
             (unsigned long long)bytes);
}

static int run(int count, char **values)
{
    const char *root = NULL, *gpu = NULL, *bytes = NULL, *proc = "/proc";
    if (count < 2 || strcmp(values[1], "nvml") != 0)
        fail("usage: dragoman-hook-nvml nvml --root=DIR --gpu=UUID --bytes=NUMBER [--proc=DIR]");
    for (int i = 2; i < count; i++) {
        const char *value;
        if ((value = argument(values[i], "--root=")))
            root = value;
        else if ((value = argument(values[i], "--gpu=")))
            gpu = value;
        else if ((value = argument(values[i], "--bytes=")))
            bytes = value;
        else if ((value = argument(values[i], "--proc=")))
            proc = value; /* for tests */
        else
            fail("argument %s is not known.", values[i]);
    }
    if (!absolute(root) || !absolute(proc))
        fail("--root and --proc are absolute paths.");
    if (!printable(gpu, 80))
        fail("--gpu is the UUID of a card.");
    uint64_t limit = amount(bytes);
    start();

    uint64_t pid = pid_of_state();
    char leaf[PATH_MAX / 2], cgroup[PATH_MAX];
    find_leaf(proc, pid, leaf, sizeof leaf);
    snprintf(cgroup, sizeof cgroup, "%s%s", root, leaf);
    if (access(cgroup, F_OK) < 0)
        fail("the container's cgroup %s cannot be opened: %s.", cgroup, strerror(errno));
    limit_memory(gpu, cgroup, limit);
    return 0;
}

__attribute__((noreturn, used)) void entered(long *stack)
{
    _exit(run((int)stack[0], (char **)(stack + 1)));
}

#if defined(__x86_64__)
__asm__(".globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call entered\n");
#elif defined(__aarch64__)
__asm__(".globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n bl entered\n");
#else
#error "not known how a program starts on this machine"
#endif

