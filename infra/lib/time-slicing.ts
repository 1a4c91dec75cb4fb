import { stringify } from "yaml";

/** The resource that pods ask for. */
export const gpuResource = "nvidia.com/gpu";

/**
 * Configuration of NVIDIA's device plugin. `failRequestsGreaterThanOne`, because a pod that asks for two slices gets no more of the
 * card than one; its requests add up over its containers, so three GPU containers in one pod are refused as well.
 * @param replicas pods that share a card by turns, without isolation of memory or faults; 1 for one pod a card
 */
export function timeSlicing(replicas: number): string {
  const sharing = {
    timeSlicing: { renameByDefault: false, failRequestsGreaterThanOne: true, resources: [{ name: gpuResource, replicas }] },
  };
  return stringify({ version: "v1", flags: { migStrategy: "none" }, ...(replicas > 1 ? { sharing } : {}) });
}
