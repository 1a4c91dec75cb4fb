import { sha256 } from "./remote-program.js";
import type { GpuRuntimeConfig } from "./stack-schema.js";
import { timeSlicing } from "./time-slicing.js";

/** One Helm release of the GPU runtime. */
export interface Chart {
  chart: string;
  repository: string;
  version: string;
  values: Record<string, unknown>;
}

/**
 * Versions that were current in autumn 2026, by the projects' own releases: NVIDIA/k8s-device-plugin 0.20.1,
 * NVIDIA/dcgm-exporter 4.6.0-4.8.3, NVIDIA/gpu-operator v26.7.0.
 */
const newest = { devicePlugin: "0.20.1", exporter: "4.8.3", operator: "v26.7.0" } as const;

/** Taint of GPU nodes: only pods that say so, or ask for a GPU in clusters that add it for them, run there. */
export const gpuTaint = { key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" } as const;
/** Label of GPU nodes; feature discovery sets it too, once it runs. */
export const gpuNodeLabels = { "nvidia.com/gpu.present": "true" } as const;

const tolerations = [{ key: gpuTaint.key, operator: "Exists", effect: gpuTaint.effect }];

/** Said where the class of the charts' pods is not in the cluster. */
export const missingRuntimeClass = (name: string): string =>
  `there is no RuntimeClass ${name} in this cluster, and pods with a card could not start: gpuctl:cluster.runtime.createRuntimeClass: true makes it`;

/** Device plugin with feature discovery, on hosts that have driver and toolkit. */
export function devicePlugin({ replicasPerGpu, runtimeClass, devicePluginVersion }: GpuRuntimeConfig): Chart {
  return {
    chart: "nvidia-device-plugin",
    repository: "https://nvidia.github.io/k8s-device-plugin",
    version: devicePluginVersion ?? newest.devicePlugin,
    values: {
      runtimeClassName: runtimeClass,
      gfd: { enabled: true },
      config: { map: { default: timeSlicing(replicasPerGpu) }, default: "default" },
      nodeSelector: gpuNodeLabels,
      tolerations,
    },
  };
}

/**
 * What the exporter reads. None of the profiling fields (`DCGM_FI_PROF_*`), which its own list has: a T4 gives them to one reader at a
 * time, and an exporter that asks for them then gives nothing at all.
 */
const counters = [
  "DCGM_FI_DEV_SM_CLOCK, gauge, SM clock frequency (in MHz).",
  "DCGM_FI_DEV_GPU_TEMP, gauge, GPU temperature (in C).",
  "DCGM_FI_DEV_POWER_USAGE, gauge, Power draw (in W).",
  "DCGM_FI_DEV_GPU_UTIL, gauge, GPU utilization (in %).",
  "DCGM_FI_DEV_MEM_COPY_UTIL, gauge, Memory utilization (in %).",
  "DCGM_FI_DEV_FB_FREE, gauge, Framebuffer memory free (in MiB).",
  "DCGM_FI_DEV_FB_USED, gauge, Framebuffer memory used (in MiB).",
  "DCGM_FI_DEV_XID_ERRORS, gauge, Value of the last XID error encountered.",
];

const countersText = `${counters.join("\n")}\n`;

/** Metrics of the cards. Under time-slicing a value is the card's, not the pod's. */
export function exporter({ runtimeClass, exporterVersion }: GpuRuntimeConfig): Chart {
  return {
    chart: "dcgm-exporter",
    repository: "https://nvidia.github.io/dcgm-exporter/helm-charts",
    version: exporterVersion ?? newest.exporter,
    values: {
      // The chart puts these where the exporter looks for its own list.
      customMetrics: countersText,
      runtimeClassName: runtimeClass,
      serviceMonitor: { enabled: false },
      nodeSelector: gpuNodeLabels,
      tolerations,
    },
  };
}

/**
 * A list that the operator's chart makes a ConfigMap of. The operator does not look at what is in one: the hash in its name is what
 * brings another content to the pods.
 */
const listFor = <Data>(name: string, data: Data) => ({
  create: true,
  name: `gpuctl-${name}-${sha256(JSON.stringify(data)).slice(0, 8)}`,
  data,
});

/**
 * NVIDIA's GPU Operator where hosts bring driver and toolkit: it may touch neither. Brings its own exporter and discovery.
 * Keys of its values as its chart v26.7.0 has them.
 */
export function operator({ replicasPerGpu, operatorVersion, exporter: withExporter }: GpuRuntimeConfig): Chart {
  return {
    chart: "gpu-operator",
    repository: "https://helm.ngc.nvidia.com/nvidia",
    version: operatorVersion ?? newest.operator,
    values: {
      driver: { enabled: false, upgradePolicy: { autoUpgrade: false } },
      toolkit: { enabled: false },
      dcgmExporter: { enabled: withExporter, config: listFor("counters", countersText) },
      devicePlugin: { config: { ...listFor("time-slicing", { default: timeSlicing(replicasPerGpu) }), default: "default" } },
    },
  };
}
