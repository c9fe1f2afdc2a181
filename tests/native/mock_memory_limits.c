/* NVML's limits of cgroups, kept in a file: what dragoman-hook-nvml and the agent call, and no more.
 *
 * MOCK_LIMITS       the file; each line that was set is "UUID CGROUP SOFT HARD"
 * MOCK_LIMITS_MODE  "" keeps limits; "deaf" says yes and keeps none; "refuses" says that it may not; "unsupported"
 *                   answers no question about limits; "away" has no driver behind it
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define NONE 0xFFFFFFFFFFFFFFFFull

struct to_set {
    const char *name_space;
    unsigned long long soft, hard;
};

struct found {
    const char *name_space;
    unsigned long long soft, hard, used;
};

static char card[128];

static int mode(const char *name)
{
    const char *chosen = getenv("MOCK_LIMITS_MODE");
    return chosen && strcmp(chosen, name) == 0;
}

EXPORT int nvmlInit_v2(void) { return mode("away") ? 9 : 0; }
EXPORT int nvmlShutdown(void) { return 0; }

EXPORT const char *nvmlErrorString(int code)
{
    return code == 3 ? "Not Supported" : code == 4 ? "Insufficient Permissions" : code == 6 ? "Not Found" : "Driver Not Loaded";
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, void **device)
{
    if (strncmp(uuid, "GPU-", 4) != 0 || strstr(uuid, "dead"))
        return 6;
    snprintf(card, sizeof card, "%s", uuid);
    *device = card;
    return 0;
}

EXPORT int nvmlDeviceSetMemoryLimits_v1(void *device, struct to_set *limits)
{
    if (mode("unsupported"))
        return 3;
    if (mode("refuses"))
        return 4;
    if (mode("deaf"))
        return 0;
    FILE *file = fopen(getenv("MOCK_LIMITS"), "a");
    fprintf(file, "%s %s %llu %llu\n", (char *)device, limits->name_space, limits->soft, limits->hard);
    fclose(file);
    return 0;
}

EXPORT int nvmlDeviceGetMemoryLimits_v1(void *device, struct found *limits)
{
    if (mode("unsupported"))
        return 3;
    limits->soft = 0;
    limits->hard = NONE;
    FILE *file = getenv("MOCK_LIMITS") ? fopen(getenv("MOCK_LIMITS"), "r") : NULL;
    char uuid[128], cgroup[4096];
    unsigned long long soft, hard;
    while (file && fscanf(file, "%127s %4095s %llu %llu", uuid, cgroup, &soft, &hard) == 4)
        if (strcmp(uuid, device) == 0 && strcmp(cgroup, limits->name_space) == 0)
            limits->soft = soft, limits->hard = hard;
    if (file)
        fclose(file);
    return 0;
}
