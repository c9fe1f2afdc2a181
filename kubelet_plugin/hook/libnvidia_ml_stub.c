/* What dragoman-hook-nvml is linked with where there is no driver: names, and nothing behind them. Never installed. */

#define STUB(name) \
    int name(void);  \
    int name(void) { return 1; }

STUB(nvmlInit_v2)
STUB(nvmlDeviceGetHandleByUUID)
STUB(nvmlDeviceSetMemoryLimits_v1)
STUB(nvmlDeviceGetMemoryLimits_v1)
STUB(nvmlErrorString)
