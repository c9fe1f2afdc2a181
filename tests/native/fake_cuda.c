/*
 * libcuda.so.1 for tests, with the calls that hack/check-gpu makes.
 *
 *   FAKE_CUDA_CARDS       number of cards (default 1; 0 makes cuInit answer 100, no device)
 *   FAKE_CUDA_TOTAL_MIB   memory of each card (default 16384)
 *   FAKE_CUDA_LIMIT       1: allocations above CUDA_DEVICE_MEMORY_LIMIT_0 are refused and the card reports that
 *                         size, as a preload library that holds its limits makes it look
 *
 * Limits: one context, one thread; nothing is really allocated.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static size_t used;

static size_t number(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static size_t total(void)
{
    size_t all = number("FAKE_CUDA_TOTAL_MIB", 16384), limit = number("CUDA_DEVICE_MEMORY_LIMIT_0", 0);
    return (number("FAKE_CUDA_LIMIT", 0) && limit ? limit : all) << 20;
}

EXPORT int cuInit(unsigned int flags) { return flags == 0 && number("FAKE_CUDA_CARDS", 1) ? 0 : 100; }

EXPORT int cuGetErrorName(int code, const char **name)
{
    *name = code == 0 ? "CUDA_SUCCESS" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_NO_DEVICE";
    return 0;
}

EXPORT int cuDeviceGetCount(int *count) { *count = (int)number("FAKE_CUDA_CARDS", 1); return 0; }
EXPORT int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }

EXPORT int cuDeviceGetName(char *name, int length, int device)
{
    snprintf(name, (size_t)length, "Fake card %d", device);
    return 0;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device)
{
    memset(uuid, 0, 16);
    uuid[15] = (unsigned char)device;
    return 0;
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = total(); return 0; }
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(intptr_t)(device + 1); return 0; }
EXPORT int cuCtxSetCurrent(void *context) { return context ? 0 : 201; }

EXPORT int cuMemGetInfo_v2(size_t *free, size_t *all)
{
    *all = total();
    *free = *all - used;
    return 0;
}

EXPORT int cuMemAlloc_v2(uint64_t *address, size_t bytes)
{
    if (used + bytes > total())
        return 2;
    used += bytes;
    *address = used;
    return 0;
}
