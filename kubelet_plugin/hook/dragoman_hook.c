/* dragoman-hook: puts a limit on a card's memory on a container's own cgroup, before its entrypoint runs.
 *
 * Purpose: the isolation method `kernel` (driver/isolation/kernel.py) names this program as an OCI hook of stage
 * createRuntime. At that stage the container's first process exists, is in its cgroup and waits; the hook runs as the
 * runtime does, in the node's own namespaces. Its exit status other than 0 ends the container before anything of it
 * has run, and the one sentence on stderr stands in the pod's event.
 *
 *     dragoman-hook dmem --root=/sys/fs/cgroup --region=drm/0000:03:00.0/vram0 --bytes=1073741824
 *
 * Flow: arguments -> OCI state on stdin (pid, status) -> /proc/PID/cgroup -> the leaf in the tree of cgroup v2 ->
 * `dmem.max` of the leaf is written, and read back. Where the leaf lacks the file, the controller is switched on from
 * the root down.
 *
 * Limits:
 * - Hard limits only. dmem.min and dmem.low are never written: what a dying cgroup had reserved can stay reserved in
 *   its parents, and no hook of OCI runs between a container's end and the removal of its cgroup.
 * - All that is read is bounded, in size and in time.
 * - Linked statically and free of everything that a C library loads while it runs (no names, no locale): it has to
 *   run on nodes that have no shell, and another C library than the one it was built with.
 *
 * Source of the formats: the OCI runtime specification ("State"); the kernel's cgroup-v2 document, "DMEM".
 */

#include "container.h"

enum { MAX_REGION = 255 };

#define NO_LIMIT UINT64_MAX

static char region_lines[MAX_FILE + 1];

/* ---- the controller ---------------------------------------------------------------------------------------- */

/* Opens the leaf, with the controller on. */
static int open_leaf(const char *root, const char *leaf)
{
    int folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        fail("the tree of cgroups at %s cannot be opened: %s.", root, strerror(errno));
    char path[PATH_MAX];
    strcpy(path, leaf + 1);
    int target = openat(folder, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (target < 0)
        fail("the container's cgroup %s%s cannot be opened: %s.", root, leaf, strerror(errno));
    if (faccessat(target, "dmem.max", F_OK, 0) == 0)
        return target;
    /* Some runtimes switch on the controllers that they know of, and no others. */
    for (char *part = path;;) {
        if (write_file(folder, "cgroup.subtree_control", "+dmem") < 0)
            fail("the controller dmem cannot be switched on above %s%s: %s.", root, leaf, strerror(errno));
        char *slash = strchr(part, '/');
        if (!slash)
            break;
        *slash = '\0';
        int next = openat(folder, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (next < 0)
            fail("a cgroup above %s%s cannot be opened: %s.", root, leaf, strerror(errno));
        close(folder);
        folder = next;
        part = slash + 1;
    }
    close(folder);
    if (faccessat(target, "dmem.max", F_OK, 0) < 0)
        fail("the container's cgroup %s%s has no limits on device memory (dmem.max): %s.", root, leaf,
             strerror(errno));
    return target;
}

/* ---- the limit --------------------------------------------------------------------------------------------- */

/* Limit of a region in a file of lines `REGION VALUE`; false where the region is not in it. */
static bool limit_of(int leaf, const char *file, const char *region, uint64_t *limit)
{
    if (read_file(leaf, file, region_lines, sizeof region_lines - 1) < 0)
        fail("%s of the container's cgroup cannot be read: %s.", file, strerror(errno));
    size_t length = strlen(region);
    for (char *line = region_lines; *line;) {
        char *end = strchrnul(line, '\n');
        if (strncmp(line, region, length) == 0 && line[length] == ' ') {
            char *value = line + length + 1;
            size_t digits = (size_t)(end - value);
            if (digits == 3 && memcmp(value, "max", 3) == 0)
                *limit = NO_LIMIT;
            else if (!whole_number(value, digits, limit))
                fail("%s of the container's cgroup is not understood.", file);
            return true;
        }
        line = *end ? end + 1 : end;
    }
    return false;
}

static void limit_memory(int leaf, const char *region, uint64_t bytes)
{
    uint64_t found;
    if (!limit_of(leaf, "dmem.max", region, &found))
        fail("the kernel has no memory region %s (any more).", region);
    if (found != NO_LIMIT && found != bytes)
        fail("memory region %s has a limit of %llu bytes already; %llu are wanted.", region,
             (unsigned long long)found, (unsigned long long)bytes);
    char line[MAX_REGION + 32];
    snprintf(line, sizeof line, "%s %llu\n", region, (unsigned long long)bytes);
    if (write_file(leaf, "dmem.max", line) < 0)
        fail("the limit of memory region %s cannot be written: %s.", region, strerror(errno));
    if (!limit_of(leaf, "dmem.max", region, &found))
        fail("memory region %s is gone since its limit was written.", region);
    if (found == NO_LIMIT)
        fail("the limit of memory region %s is not in force: it reads max.", region);
    if (found != bytes)
        fail("the limit of memory region %s is not in force: it reads %llu, not %llu bytes.", region,
             (unsigned long long)found, (unsigned long long)bytes);
}

int main(int count, char **values)
{
    const char *root = NULL, *region = NULL, *bytes = NULL, *proc = "/proc";
    if (count < 2 || strcmp(values[1], "dmem") != 0)
        fail("usage: dragoman-hook dmem --root=DIR --region=NAME --bytes=NUMBER [--proc=DIR]");
    for (int i = 2; i < count; i++) {
        const char *value;
        if ((value = argument(values[i], "--root=")))
            root = value;
        else if ((value = argument(values[i], "--region=")))
            region = value;
        else if ((value = argument(values[i], "--bytes=")))
            bytes = value;
        else if ((value = argument(values[i], "--proc=")))
            proc = value; /* for tests */
        else
            fail("argument %s is not known.", values[i]);
    }
    if (!absolute(root) || !absolute(proc))
        fail("--root and --proc are absolute paths.");
    if (!printable(region, MAX_REGION)) /* a line's end in it would write another limit than the one that is meant */
        fail("--region is the name of a memory region.");
    uint64_t limit = amount(bytes);
    start();

    uint64_t pid = pid_of_state();
    char leaf[PATH_MAX / 2];
    find_leaf(proc, pid, leaf, sizeof leaf);
    int folder = open_leaf(root, leaf);
    limit_memory(folder, region, limit);
    return 0;
}
