/* A stand-in for libnvidia-ml.so.1: the calls that pynvml makes, with values and faults that a text file gives.
 *
 * The file named by LLM_TUI_NVML_STANDIN is read again at every call, so that a test changes the values while the
 * program runs. One "key = value" a line; "<index>.<key>" is one GPU's. A value "err:<code>" makes the call return that
 * NVML error. Keys and defaults are listed in __init__.py beside this file.
 */
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15 };
#define MAX_GPUS 16

typedef struct {
    unsigned int pid;
    unsigned long long used_bytes;
    unsigned int gpu_instance, compute_instance;
} Process;

static int init_count = 0;
static int is_lost[MAX_GPUS];           /* stays so until the library is shut down and opened again */
static unsigned long num_power_calls[MAX_GPUS];
static int is_reset[MAX_GPUS];
static double frozen_mj[MAX_GPUS];
static double counter_mj[MAX_GPUS], counter_at_s[MAX_GPUS], counter_mw[MAX_GPUS];

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* The value of a key in out; 0 where the file does not name it. */
static int look_up(const char *key, char *out, size_t size) {
    const char *path = getenv("LLM_TUI_NVML_STANDIN");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[4096];
    int found = 0;
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file)) {
        char *equals = strchr(line, '=');
        if (!equals) continue;
        char *end = equals;
        while (end > line && end[-1] == ' ') end--;
        if ((size_t)(end - line) != strlen(key) || strncmp(line, key, end - line)) continue;
        char *value = equals + 1 + strspn(equals + 1, " ");
        value[strcspn(value, "\n")] = 0;
        snprintf(out, size, "%s", value);
        found = 1;
    }
    fclose(file);
    return found;
}

/* A GPU's value; returns the error code that the file orders, or SUCCESS. */
static int gpu_value(int gpu, const char *key, const char *otherwise, char *out, size_t size) {
    char name[128];
    snprintf(name, sizeof name, "%d.%s", gpu, key);
    if (!look_up(name, out, size)) snprintf(out, size, "%s", otherwise);
    return strncmp(out, "err:", 4) ? SUCCESS : atoi(out + 4);
}

static double number(const char *key, double otherwise) {
    char text[256];
    return look_up(key, text, sizeof text) ? atof(text) : otherwise;
}

static void crash(void);

static void hang(void) {
    crash();
    double seconds = number("hang_s", 0);
    if (seconds > 0) {
        struct timespec t = {(time_t)seconds, (long)((seconds - floor(seconds)) * 1e9)};
        nanosleep(&t, NULL);
    }
}

/* "segv", "abort" or "exit": the driver takes its process down. */
static void crash(void) {
    char text[64];
    if (!look_up("crash", text, sizeof text)) return;
    if (!strcmp(text, "segv")) raise(SIGSEGV);
    if (!strcmp(text, "abort")) abort();
    if (!strcmp(text, "exit")) _exit(3);
}

/* Common to every call about one GPU: a handle is the index plus 1. */
static int enter(void *handle, int *gpu) {
    *gpu = (int)(intptr_t)handle - 1;
    if (!init_count) return UNINITIALIZED;
    if (*gpu < 0 || *gpu >= MAX_GPUS) return INVALID_ARGUMENT;
    hang();
    char text[64];
    if (!gpu_value(*gpu, "lost", "0", text, sizeof text) && atoi(text)) is_lost[*gpu] = 1;
    return is_lost[*gpu] ? LOST : SUCCESS;
}

static int get_uint(void *handle, const char *key, const char *otherwise, unsigned int *out) {
    char text[256];
    int gpu, code = enter(handle, &gpu);
    if (!code) code = gpu_value(gpu, key, otherwise, text, sizeof text);
    if (!code) *out = (unsigned int)strtoul(text, NULL, 10);
    return code;
}

static int get_text(void *handle, const char *key, const char *otherwise, char *out, unsigned int size) {
    char text[1024];
    int gpu, code = enter(handle, &gpu);
    if (!code) code = gpu_value(gpu, key, otherwise, text, sizeof text);
    if (!code) snprintf(out, size, "%s", text);
    return code;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    hang();
    int code = (int)number("init", 0);
    if (code) return code;
    if (!init_count++) memset(is_lost, 0, sizeof is_lost);
    return SUCCESS;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
    if (!init_count) return UNINITIALIZED;
    init_count--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    (void)code;
    return "an error of the stand-in";
}

int nvmlSystemGetDriverVersion(char *out, unsigned int size) {
    char text[256];
    if (!init_count) return UNINITIALIZED;
    if (!look_up("driver", text, sizeof text)) strcpy(text, "580.65.06");
    snprintf(out, size, "%s", text);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion(int *out) {
    if (!init_count) return UNINITIALIZED;
    *out = (int)number("cuda", 13000);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *out) { return nvmlSystemGetCudaDriverVersion(out); }

int nvmlDeviceGetCount_v2(unsigned int *out) {
    if (!init_count) return UNINITIALIZED;
    hang();
    *out = (unsigned int)number("devices", 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **out) {
    int gpu, code = enter((void *)(intptr_t)(index + 1), &gpu);
    *out = (void *)(intptr_t)(index + 1);
    return code;
}

int nvmlDeviceGetName(void *handle, char *out, unsigned int size) {
    return get_text(handle, "name", "NVIDIA GeForce RTX 2050", out, size);
}

int nvmlDeviceGetUUID(void *handle, char *out, unsigned int size) {
    char otherwise[64];
    snprintf(otherwise, sizeof otherwise, "GPU-00000000-0000-0000-0000-%012d", (int)(intptr_t)handle - 1);
    return get_text(handle, "uuid", otherwise, out, size);
}

int nvmlDeviceGetTemperature(void *handle, unsigned int sensor, unsigned int *out) {
    (void)sensor;
    return get_uint(handle, "celsius", "55", out);
}

int nvmlDeviceGetTemperatureThreshold(void *handle, unsigned int threshold, unsigned int *out) {
    if (threshold == 0) return get_uint(handle, "shutdown_celsius", "102", out);
    if (threshold == 1) return get_uint(handle, "slowdown_celsius", "97", out);
    return NOT_SUPPORTED;
}

/* The true power in mW at an instant: a number, or a square wave "low,high,period_s". */
static double true_mw(int gpu, double at_s) {
    char text[256];
    double low, high, period_s;
    if (gpu_value(gpu, "wave_mw", "", text, sizeof text) == SUCCESS
        && sscanf(text, "%lf,%lf,%lf", &low, &high, &period_s) == 3)
        return fmod(at_s, period_s) < period_s / 2 ? low : high;
    if (gpu_value(gpu, "true_mw", "", text, sizeof text) != SUCCESS || !*text)
        if (gpu_value(gpu, "power_mw", "25000", text, sizeof text)) return 0;
    return atof(text);
}

/* The stand-in's own integral of the true power of GPU 0 between two instants, in mJ: what a bench measures against. */
double standin_true_mj(double from_s, double to_s) {
    double sum = 0, step_s = 0.0005;
    for (double at = from_s; at < to_s; at += step_s)
        sum += true_mw(0, at + step_s / 2) * (at + step_s < to_s ? step_s : to_s - at);
    return sum;
}

/* Mean true power since the last look: exact for steady power; a wave is summed in ms. */
static double live_counter_mj(int gpu) {
    double now = now_s(), at = counter_at_s[gpu];
    if (at == 0) {
        counter_mj[gpu] = 1e6;
    } else {
        char text[256];
        int is_wave = gpu_value(gpu, "wave_mw", "", text, sizeof text) == SUCCESS && *text;
        if (is_wave)
            for (; at + 0.001 <= now; at += 0.001) counter_mj[gpu] += true_mw(gpu, at) * 0.001;
        else
            counter_mj[gpu] += counter_mw[gpu] * (now - at), at = now;
        now = at;
    }
    counter_at_s[gpu] = now;
    counter_mw[gpu] = true_mw(gpu, now);
    return counter_mj[gpu];
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned int *out) {
    char text[256];
    int gpu, code = enter(handle, &gpu);
    if (code) return code;
    if (gpu_value(gpu, "power_mw", "25000", text, sizeof text)) return atoi(text + 4);
    double every = 0, spike_mw = 0;
    *out = (unsigned int)true_mw(gpu, now_s());
    if (gpu_value(gpu, "true_mw", "", text, sizeof text) == SUCCESS && *text) {
        gpu_value(gpu, "power_mw", "25000", text, sizeof text);
        *out = (unsigned int)atof(text);
    }
    if (!gpu_value(gpu, "spike", "", text, sizeof text) && sscanf(text, "%lf,%lf", &spike_mw, &every) == 2
        && ++num_power_calls[gpu] % (unsigned long)every == 0)
        *out = (unsigned int)spike_mw;
    return SUCCESS;
}

typedef struct {
    unsigned int field, scope;
    long long timestamp, latency_us;
    int value_type, code;
    union {
        unsigned int ui;
        unsigned long long ull;
    } value;
} FieldValue;

/* Power, mean (185) and instant (186), is all that is told this way. */
int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *values) {
    for (int i = 0; i < count; i++) {
        values[i].code = NOT_SUPPORTED;
        if (values[i].field != 185 && values[i].field != 186) continue;
        values[i].value_type = 1;
        values[i].code = nvmlDeviceGetPowerUsage(handle, &values[i].value.ui);
    }
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned int *out) {
    return get_uint(handle, "limit_mw", "35000", out);
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *out) {
    char text[256];
    int gpu, code = enter(handle, &gpu);
    if (!code) code = gpu_value(gpu, "counter_mj", "live", text, sizeof text);
    if (code) return code;
    if (strcmp(text, "live")) {
        *out = strtoull(text, NULL, 10);
        return SUCCESS;
    }
    double mj = live_counter_mj(gpu);
    double wrap_mj = 0, fault_s = 0;
    gpu_value(gpu, "counter_fault", "", text, sizeof text);
    if (sscanf(text, "reset:%lf", &fault_s) == 1 && !is_reset[gpu]) {
        is_reset[gpu] = 1;
        mj = counter_mj[gpu] = counter_mw[gpu] * fmax(0, now_s() - fault_s);
    }
    if (sscanf(text, "freeze:%lf", &fault_s) == 1) {
        if (!frozen_mj[gpu]) frozen_mj[gpu] = mj - counter_mw[gpu] * fmax(0, now_s() - fault_s);
        mj = frozen_mj[gpu];
    }
    if (sscanf(text, "wrap:%lf", &wrap_mj) == 1) mj = fmod(mj, wrap_mj);
    *out = (unsigned long long)mj;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *handle, unsigned int *out) {
    out[1] = 0;
    return get_uint(handle, "util_pct", "90", out);
}

int nvmlDeviceGetClockInfo(void *handle, unsigned int type, unsigned int *out) {
    return type == 2 ? get_uint(handle, "memory_clock_mhz", "5500", out) : get_uint(handle, "clock_mhz", "1200", out);
}

int nvmlDeviceGetFanSpeed(void *handle, unsigned int *out) { return get_uint(handle, "fan_pct", "err:3", out); }

int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *out) {
    unsigned int bits;
    int code = get_uint(handle, "throttle", "0", &bits);
    if (!code) *out = bits;
    return code;
}

int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *out) {
    char text[256];
    int gpu, code = enter(handle, &gpu);
    if (code) return code;
    if ((code = gpu_value(gpu, "memory_total_bytes", "4294967296", text, sizeof text))) return code;
    out[0] = strtoull(text, NULL, 10);
    if ((code = gpu_value(gpu, "memory_used_bytes", "1073741824", text, sizeof text))) return code;
    out[2] = strtoull(text, NULL, 10);
    out[1] = out[0] - out[2];
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(void *handle, unsigned int *out) { return get_uint(handle, "architecture", "7", out); }

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    char text[64];
    int gpu, code = enter(handle, &gpu);
    if (!code) code = gpu_value(gpu, "capability", "8.6", text, sizeof text);
    if (!code) sscanf(text, "%d.%d", major, minor);
    return code;
}

/* "pid:bytes pid:na": na is the value that means "not available". */
static int processes(void *handle, const char *key, unsigned int *count, Process *out) {
    char text[2048];
    unsigned int found = 0;
    int gpu, code = enter(handle, &gpu);
    if (!code) code = gpu_value(gpu, key, "", text, sizeof text);
    if (code) return code;
    for (char *state = NULL, *part = strtok_r(text, " ", &state); part; part = strtok_r(NULL, " ", &state)) {
        char *colon = strchr(part, ':');
        if (out && found < *count) {
            memset(&out[found], 0, sizeof *out);
            out[found].pid = (unsigned int)atoi(part);
            out[found].used_bytes = colon && strcmp(colon, ":na") ? strtoull(colon + 1, NULL, 10) : ~0ULL;
            out[found].gpu_instance = out[found].compute_instance = ~0U;
        }
        found++;
    }
    code = found > *count || (found && !out) ? INSUFFICIENT_SIZE : SUCCESS;
    *count = found;
    return code;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned int *count, Process *out) {
    return processes(handle, "compute", count, out);
}

int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned int *count, Process *out) {
    return processes(handle, "compute", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *handle, unsigned int *count, Process *out) {
    return processes(handle, "graphics", count, out);
}

int nvmlDeviceGetGraphicsRunningProcesses_v2(void *handle, unsigned int *count, Process *out) {
    return processes(handle, "graphics", count, out);
}
