/* NVIDIA's management library as the package nvidia-ml-py finds it: libnvidia-ml.so.1, with the functions that we call, by
   the prototypes of nvml.h. What it knows lies in files below $FAKE_NVML, so that a test can change it meanwhile:

       <gpu>/uuid, <gpu>/energy (mJ), <gpu>/power (mW), <gpu>/used (bytes)    no file: not supported; "lost": the GPU is
       <gpu>/used.told, …                                                     what was told last
       mig/<uuid>                                                             the number of the GPU that it is part of
       opened                                                                 how often it was opened and not shut down */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int nvmlReturn_t;
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct {
    unsigned long long total, free, used;
} nvmlMemory_t;

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, LOST = 15 };
static int opened = 0;
static char names[16];

static nvmlReturn_t text_of(const char *where, const char *name, char *text, unsigned length) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", getenv("FAKE_NVML"), where, name);
    FILE *file = fopen(path, "r");
    if (!file) return NOT_SUPPORTED;
    char *line = fgets(text, (int)length, file);
    fclose(file);
    if (!line) return NOT_SUPPORTED;
    text[strcspn(text, "\n")] = 0;
    return strcmp(text, "lost") ? SUCCESS : LOST;
}

static void write_text(const char *where, const char *name, const char *text) {
    char path[4096], part[4104];
    snprintf(path, sizeof path, "%s/%s/%s", getenv("FAKE_NVML"), where, name);
    snprintf(part, sizeof part, "%s.part", path);
    FILE *file = fopen(part, "w");
    if (!file) return;
    fputs(text, file);
    fclose(file);
    rename(part, path);
}

static nvmlReturn_t number_of(nvmlDevice_t device, const char *name, unsigned long long *number) {
    char where[8], text[64], told[32];
    if (!opened) return UNINITIALIZED;
    snprintf(where, sizeof where, "%d", (int)((char *)device - names));
    nvmlReturn_t result = text_of(where, name, text, sizeof text);
    if (result != SUCCESS) return result;
    *number = strtoull(text, NULL, 10);
    snprintf(told, sizeof told, "%s.told", name);
    write_text(where, told, text);
    return SUCCESS;
}

static void tell(void) {
    char text[16];
    snprintf(text, sizeof text, "%d", opened);
    write_text(".", "opened", text);
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    opened++;
    tell();
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) {
    if (!opened) return UNINITIALIZED;
    opened--;
    tell();
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t result) {
    return result == LOST ? "GPU is lost" : result == NOT_SUPPORTED ? "Not Supported" : "Unknown Error";
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    char where[8], text[96];
    if (!opened) return UNINITIALIZED;
    for (*count = 0;; (*count)++) {
        snprintf(where, sizeof where, "%u", *count);
        if (text_of(where, "uuid", text, sizeof text) != SUCCESS) return SUCCESS;
    }
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    unsigned count;
    nvmlReturn_t result = nvmlDeviceGetCount_v2(&count);
    if (result != SUCCESS) return result;
    if (index >= count) return INVALID;
    *device = (nvmlDevice_t)(names + index);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    char where[8];
    if (length < 80) return SMALL;
    snprintf(where, sizeof where, "%d", (int)((char *)device - names));
    return text_of(where, "uuid", uuid, length);
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    char text[64];
    if (text_of("mig", uuid, text, sizeof text) != SUCCESS) return NOT_FOUND;
    *device = (nvmlDevice_t)(names + 8 + atoi(text)); /* an instance: not the GPU itself */
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t instance, nvmlDevice_t *device) {
    if ((char *)instance < names + 8) return INVALID;
    *device = (nvmlDevice_t)((char *)instance - 8);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoules) {
    return number_of(device, "energy", millijoules);
}

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatts) {
    unsigned long long number = 0;
    nvmlReturn_t result = number_of(device, "power", &number);
    *milliwatts = (unsigned)number;
    return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    memory->total = 80ull << 30;
    nvmlReturn_t result = number_of(device, "used", &memory->used);
    memory->free = memory->total - memory->used;
    return result;
}
