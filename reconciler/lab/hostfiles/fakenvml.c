/* A stand-in for libnvidia-ml.so.1 that answers from a text file, so that programs that read GPUs through NVML run their
 * real code on a computer without one.
 *
 * State file: $LAB_NVML_STATE, else /run/lab-gpu/state. One "key value" per line, `#` starts a comment, the LAST line of a
 * key wins. It is read again on every call: rewrite it (temporary file, then rename) and the machine has changed.
 *
 *   driver 580.159.04                           | fail.nvmlInit !18        the call answers nvmlReturn_t 18
 *   count 2                                     | sleep.nvmlInit 60000     the call takes a minute
 *   gpu.0.mem TOTAL RESERVED USED               | gpu.0.mem !3             NOT_SUPPORTED, as GB10 answers
 *   gpu.0.proc.C.0 PID BYTES                    | gpu.0.proc.C.0 PID NA    kinds: C compute, G graphics, M MPS
 *   gpu.0.handle !15                            | gpu.1.mig.0.uuid MIG-…   | gpu.0.field.230 1
 *
 * Structures follow the public NVML ABI on LP64, little-endian. Must not: allocate, cache, or keep state of its own.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define API __attribute__((visibility("default")))
#define MAX_GPU 16
#define MAX_MIG 8
#define MAX_PROC 64

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    ARGUMENT_VERSION_MISMATCH = 25
};

typedef int status;
typedef unsigned long long u64;
typedef struct {
    int gpu, mig; /* mig is -1 for the whole GPU */
} device;

static device devices[MAX_GPU][1 + MAX_MIG];
static int users;

/* ---- the state file ------------------------------------------------------------------------------------------- */

static int lookup(char *out, size_t size, const char *format, ...) {
    char key[256], line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(key, sizeof key, format, args);
    va_end(args);

    const char *path = getenv("LAB_NVML_STATE");
    FILE *file = fopen(path ? path : "/run/lab-gpu/state", "re");
    if (!file) return 0;
    int found = 0;
    size_t length = strlen(key);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (*line == '#' || strncmp(line, key, length) != 0 || line[length] != ' ') continue;
        snprintf(out, size, "%s", line + length + 1);
        found = 1;
    }
    fclose(file);
    return found;
}

/* What every call does first: be slow or fail when the file says so. */
static status enter(const char *call) {
    char value[64];
    if (lookup(value, sizeof value, "sleep.%s", call)) usleep(1000u * (unsigned)atoi(value));
    if (lookup(value, sizeof value, "fail.%s", call)) return value[0] == '!' ? atoi(value + 1) : SUCCESS;
    return SUCCESS;
}

static status ready(const char *call) {
    status failed = enter(call);
    if (failed) return failed;
    return users ? SUCCESS : UNINITIALIZED;
}

static int lookup_device(const device *d, const char *key, char *value, size_t size) {
    if (d->mig < 0) return lookup(value, size, "gpu.%d.%s", d->gpu, key);
    return lookup(value, size, "gpu.%d.mig.%d.%s", d->gpu, d->mig, key);
}

/* Read "<device>.<key>" into `value`; a value of `!N` is the answer N. */
static status read_device(const void *handle, const char *call, const char *key, char *value, size_t size) {
    status failed = ready(call);
    if (failed) return failed;
    if (!handle) return INVALID_ARGUMENT;
    if (!lookup_device(handle, key, value, size)) return NOT_SUPPORTED;
    return value[0] == '!' ? atoi(value + 1) : SUCCESS;
}

static status device_text(const void *handle, const char *call, const char *key, char *out, unsigned size) {
    char value[512];
    status failed = read_device(handle, call, key, value, sizeof value);
    if (failed) return failed;
    if (strlen(value) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(out, value);
    return SUCCESS;
}

static status device_u64(const void *handle, const char *call, const char *key, u64 *out) {
    char value[512];
    status failed = read_device(handle, call, key, value, sizeof value);
    if (!failed) *out = strtoull(value, NULL, 0);
    return failed;
}

static status device_u32(const void *handle, const char *call, const char *key, unsigned *out) {
    u64 wide;
    status failed = device_u64(handle, call, key, &wide);
    if (!failed) *out = (unsigned)wide;
    return failed;
}

static status system_text(const char *call, const char *key, char *out, unsigned size) {
    char value[256];
    status failed = ready(call);
    if (failed) return failed;
    if (!lookup(value, sizeof value, "%s", key)) return NOT_SUPPORTED;
    if (value[0] == '!') return atoi(value + 1);
    snprintf(out, size, "%s", value);
    return SUCCESS;
}

/* ---- the library and the system ------------------------------------------------------------------------------- */

API status nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    status failed = enter("nvmlInit");
    if (failed) return failed;
    for (int gpu = 0; gpu < MAX_GPU; gpu++)
        for (int slot = 0; slot <= MAX_MIG; slot++) devices[gpu][slot] = (device){gpu, slot - 1};
    users++;
    return SUCCESS;
}
API status nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API status nvmlInit(void) { return nvmlInitWithFlags(0); }
API status nvmlShutdown(void) {
    if (!users) return UNINITIALIZED;
    users--;
    return SUCCESS;
}

API const char *nvmlErrorString(status code) {
    switch (code) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case NOT_SUPPORTED: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 12: return "NVML Shared Library Not Found";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 18: return "Driver/library version mismatch";
    default: return "Unknown Error";
    }
}

API status nvmlSystemGetDriverVersion(char *out, unsigned size) {
    return system_text("nvmlSystemGetDriverVersion", "driver", out, size);
}
API status nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    return system_text("nvmlSystemGetNVMLVersion", "nvml", out, size);
}
API status nvmlSystemGetCudaDriverVersion_v2(int *out) {
    char value[64];
    status failed = system_text("nvmlSystemGetCudaDriverVersion", "cuda", value, sizeof value);
    if (!failed) *out = atoi(value);
    return failed;
}
API status nvmlSystemGetCudaDriverVersion(int *out) { return nvmlSystemGetCudaDriverVersion_v2(out); }
API status nvmlSystemGetProcessName(unsigned pid, char *out, unsigned size) {
    char value[256];
    status failed = ready("nvmlSystemGetProcessName");
    if (failed) return failed;
    if (!lookup(value, sizeof value, "procname.%u", pid)) return NOT_FOUND;
    snprintf(out, size, "%s", value);
    return SUCCESS;
}

/* ---- finding devices ------------------------------------------------------------------------------------------ */

static unsigned gpu_count(void) {
    char value[64];
    unsigned count = lookup(value, sizeof value, "count") ? (unsigned)atoi(value) : 0;
    return count < MAX_GPU ? count : MAX_GPU;
}

API status nvmlDeviceGetCount_v2(unsigned *out) {
    status failed = ready("nvmlDeviceGetCount");
    if (!failed) *out = gpu_count();
    return failed;
}
API status nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    char value[64];
    status failed = ready("nvmlDeviceGetHandleByIndex");
    if (failed) return failed;
    if (index >= gpu_count()) return INVALID_ARGUMENT;
    if (lookup(value, sizeof value, "gpu.%u.handle", index) && value[0] == '!') return atoi(value + 1);
    *out = &devices[index][0];
    return SUCCESS;
}
API status nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    char value[128];
    status failed = ready("nvmlDeviceGetHandleByUUID");
    if (failed) return failed;
    for (unsigned gpu = 0; gpu < gpu_count(); gpu++) {
        if (lookup(value, sizeof value, "gpu.%u.uuid", gpu) && !strcmp(value, uuid)) {
            *out = &devices[gpu][0];
            return SUCCESS;
        }
        for (int mig = 0; mig < MAX_MIG; mig++)
            if (lookup(value, sizeof value, "gpu.%u.mig.%d.uuid", gpu, mig) && !strcmp(value, uuid)) {
                *out = &devices[gpu][1 + mig];
                return SUCCESS;
            }
    }
    return NOT_FOUND;
}

API status nvmlDeviceGetUUID(void *d, char *out, unsigned size) {
    return device_text(d, "nvmlDeviceGetUUID", "uuid", out, size);
}
API status nvmlDeviceGetName(void *d, char *out, unsigned size) {
    return device_text(d, "nvmlDeviceGetName", "name", out, size);
}
API status nvmlDeviceGetIndex(void *d, unsigned *out) {
    if (!d) return INVALID_ARGUMENT;
    *out = (unsigned)((device *)d)->gpu;
    return SUCCESS;
}
API status nvmlDeviceGetMinorNumber(void *d, unsigned *out) {
    return device_u32(d, "nvmlDeviceGetMinorNumber", "minor", out);
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} pci_info;
API status nvmlDeviceGetPciInfo_v3(void *d, pci_info *out) {
    char value[64];
    status failed = read_device(d, "nvmlDeviceGetPciInfo", "pci", value, sizeof value);
    if (failed) return failed;
    memset(out, 0, sizeof *out);
    snprintf(out->bus_id, sizeof out->bus_id, "%.31s", value);
    sscanf(value, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->legacy, sizeof out->legacy, "%04X:%02X:%02X.0", out->domain & 0xffff, out->bus & 0xff,
             out->device & 0x1f);
    return SUCCESS;
}

/* ---- memory and processes ------------------------------------------------------------------------------------- */

typedef struct {
    u64 total, free, used;
} memory_v1;
typedef struct {
    unsigned version;
    u64 total, reserved, free, used;
} memory_v2;

static status memory(void *d, const char *call, memory_v2 *out) {
    char value[128];
    status failed = read_device(d, call, "mem", value, sizeof value);
    if (failed) return failed;
    out->total = out->reserved = out->used = 0;
    sscanf(value, "%llu %llu %llu", &out->total, &out->reserved, &out->used);
    out->free = out->total - out->reserved - out->used;
    return SUCCESS;
}
/* The first version counts the driver's reserved memory as used; the second says it apart. */
API status nvmlDeviceGetMemoryInfo(void *d, memory_v1 *out) {
    memory_v2 now;
    status failed = memory(d, "nvmlDeviceGetMemoryInfo", &now);
    if (!failed) *out = (memory_v1){now.total, now.free, now.used + now.reserved};
    return failed;
}
API status nvmlDeviceGetMemoryInfo_v2(void *d, memory_v2 *out) {
    if (out->version != (sizeof(memory_v2) | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    memory_v2 now;
    status failed = memory(d, "nvmlDeviceGetMemoryInfo_v2", &now);
    if (failed) return failed;
    now.version = out->version;
    *out = now;
    return SUCCESS;
}

typedef struct {
    unsigned pid;
    u64 used;
    unsigned gpu_instance, compute_instance;
} process;

static status processes(void *d, const char *call, char kind, unsigned *count, process *out) {
    char key[32], value[128], bytes[64];
    snprintf(key, sizeof key, "procs.%c", kind);
    status failed = read_device(d, call, key, value, sizeof value);
    if (failed && failed != NOT_SUPPORTED) return failed;
    unsigned found = 0, room = *count;
    for (int i = 0; i < MAX_PROC; i++) {
        snprintf(key, sizeof key, "proc.%c.%d", kind, i);
        if (!lookup_device(d, key, value, sizeof value)) continue;
        if (out && found < room) {
            unsigned pid = 0, gpu_instance = ~0u, compute_instance = ~0u;
            sscanf(value, "%u %63s %u %u", &pid, bytes, &gpu_instance, &compute_instance);
            out[found] = (process){pid, *bytes == 'N' ? ~0ULL : strtoull(bytes, NULL, 0), gpu_instance, compute_instance};
        }
        found++;
    }
    *count = found;
    return found == 0 || (out && found <= room) ? SUCCESS : INSUFFICIENT_SIZE;
}
API status nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, process *out) {
    return processes(d, "nvmlDeviceGetComputeRunningProcesses", 'C', count, out);
}
API status nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *count, process *out) {
    return processes(d, "nvmlDeviceGetGraphicsRunningProcesses", 'G', count, out);
}
API status nvmlDeviceGetMPSComputeRunningProcesses_v3(void *d, unsigned *count, process *out) {
    return processes(d, "nvmlDeviceGetMPSComputeRunningProcesses", 'M', count, out);
}

/* ---- the rest, one number each --------------------------------------------------------------------------------- */

typedef struct {
    unsigned gpu, memory;
} utilization;
API status nvmlDeviceGetUtilizationRates(void *d, utilization *out) {
    char value[64];
    status failed = read_device(d, "nvmlDeviceGetUtilizationRates", "util", value, sizeof value);
    if (failed) return failed;
    *out = (utilization){0, 0};
    sscanf(value, "%u %u", &out->gpu, &out->memory);
    return SUCCESS;
}
API status nvmlDeviceGetTemperature(void *d, int sensor, unsigned *out) {
    (void)sensor;
    return device_u32(d, "nvmlDeviceGetTemperature", "temp", out);
}
typedef struct {
    unsigned version, sensor;
    int degrees;
} temperature;
API status nvmlDeviceGetTemperatureV(void *d, temperature *out) {
    unsigned value;
    status failed = device_u32(d, "nvmlDeviceGetTemperatureV", "temp", &value);
    if (!failed) out->degrees = (int)value;
    return failed;
}
API status nvmlDeviceGetClockInfo(void *d, int kind, unsigned *out) {
    (void)kind;
    return device_u32(d, "nvmlDeviceGetClockInfo", "clock_mhz", out);
}
#define NUMBER(type, call, key)                                                                                        \
    API status call(void *d, type *out) { return device_##type(d, #call, key, out); }
typedef unsigned u32;
NUMBER(u32, nvmlDeviceGetPowerUsage, "power_mw")
NUMBER(u32, nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
NUMBER(u64, nvmlDeviceGetCurrentClocksEventReasons, "clock_reasons")
NUMBER(u64, nvmlDeviceGetCurrentClocksThrottleReasons, "clock_reasons")
NUMBER(u32, nvmlDeviceGetPersistenceMode, "persistence")
NUMBER(u32, nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(u32, nvmlDeviceGetPerformanceState, "pstate")
NUMBER(u32, nvmlDeviceGetNumaNodeId, "numa")
NUMBER(u32, nvmlDeviceGetGpuInstanceId, "gi")
NUMBER(u32, nvmlDeviceGetComputeInstanceId, "ci")

typedef struct {
    unsigned version, value;
} versioned;
API status nvmlDeviceGetAddressingMode(void *d, versioned *out) {
    return device_u32(d, "nvmlDeviceGetAddressingMode", "addressing", &out->value);
}
API status nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
    char value[32];
    status failed = read_device(d, "nvmlDeviceGetCudaComputeCapability", "cc", value, sizeof value);
    if (!failed) sscanf(value, "%d.%d", major, minor);
    return failed;
}
API status nvmlDeviceGetEccMode(void *d, unsigned *current, unsigned *pending) {
    status failed = device_u32(d, "nvmlDeviceGetEccMode", "ecc", current);
    if (!failed) *pending = *current;
    return failed;
}
API status nvmlDeviceGetTotalEccErrors(void *d, int kind, int counter, u64 *out) {
    const char *key = kind == 0 ? (counter ? "ecc.corr.agg" : "ecc.corr.vol") : (counter ? "ecc.uncorr.agg" : "ecc.uncorr.vol");
    return device_u64(d, "nvmlDeviceGetTotalEccErrors", key, out);
}

API status nvmlDeviceGetMigMode(void *d, unsigned *current, unsigned *pending) {
    status failed = device_u32(d, "nvmlDeviceGetMigMode", "mig", current);
    if (!failed) *pending = *current;
    return failed;
}
API status nvmlDeviceGetMaxMigDeviceCount(void *d, unsigned *out) {
    (void)d;
    *out = MAX_MIG;
    return SUCCESS;
}
API status nvmlDeviceGetMigDeviceHandleByIndex(void *d, unsigned index, void **out) {
    char value[128];
    if (!d) return INVALID_ARGUMENT;
    int gpu = ((device *)d)->gpu;
    if (index >= MAX_MIG || !lookup(value, sizeof value, "gpu.%d.mig.%u.uuid", gpu, index)) return NOT_FOUND;
    *out = &devices[gpu][1 + index];
    return SUCCESS;
}
API status nvmlDeviceIsMigDeviceHandle(void *d, unsigned *out) {
    if (!d) return INVALID_ARGUMENT;
    *out = ((device *)d)->mig >= 0;
    return SUCCESS;
}

typedef struct {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type;
    status result;
    union {
        u64 integer;
        double real;
    } value;
} field_value;
API status nvmlDeviceGetFieldValues(void *d, int count, field_value *fields) {
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "field.%u", fields[i].id);
        fields[i].type = 1; /* unsigned int */
        fields[i].value.integer = 0;
        fields[i].result = device_u64(d, "nvmlDeviceGetFieldValues", key, &fields[i].value.integer);
    }
    return SUCCESS;
}
