import type { BuildResult } from "../images-build.js";
import type { CacheClear, CacheSetup, CacheStats } from "../images-cache.js";
import type { PushResult } from "../images-push.js";
import type { BuildSteps } from "../../domain/images/cache.js";
import { attestationText, type Attestations } from "../../domain/images/docker-commands.js";
import { blocks, table } from "./table.js";

/** `407.3 MB`, `5.12 GB`: decimal, as Docker counts. */
function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

const steps = ({ total, cached }: BuildSteps): string => `${cached} of ${total} steps from the cache`;

export function buildText({ builder, images, lock }: BuildResult): string {
  const rows = images.map(({ image, outcome, bytes, steps: used, seconds }) => {
    const how = used === null ? "" : `${seconds} s, ${steps(used)}`;
    return [outcome, image, size(bytes), how];
  });
  const first = images.find(({ attestations }) => attestations !== null)?.attestations ?? null;
  const next =
    lock === undefined
      ? "Into the registry, and pinned: gpuctl images push"
      : `pinned in ${lock}: there is no registry, so deploys send it from this machine`;
  return blocks(table(["", "IMAGE", "SIZE", `BUILDER ${builder}`], rows), attested(first), next);
}

export function pushText({ lock, images }: PushResult): string {
  const lines = images.map(({ outcome, ref, pinned }) => `${outcome.padEnd(7)}  ${ref}\n         ${pinned}`);
  const first = images.find(({ attestations }) => attestations !== null)?.attestations ?? null;
  return blocks([...lines, `pinned in ${lock}`].join("\n"), attested(first));
}

const attested = (attestations: Attestations | null): string => (attestations === null ? "" : attestationText(attestations));

export function cacheSetupText({ builder, driver, limitBytes, outcome }: CacheSetup): string {
  const how = {
    created: "was made",
    changed: "was made again with other settings; its cache was kept",
    present: "is there already",
  };
  return `The builder ${builder} (${driver}) ${how[outcome]}. Its cache stays below ${size(limitBytes)}.`;
}

export function cacheStatsText({ builder, use, lastBuild }: CacheStats): string {
  const { name, driver, status, limitBytes } = builder;
  const limit = limitBytes === null ? "no limit is known" : `limit ${size(limitBytes)}`;
  const held =
    use === null
      ? "It cannot be asked while it does not run; its cache is kept. It starts with the next build, or by gpuctl images cache setup."
      : `${use.entries} entries, ${size(use.bytes)}, of which ${size(use.reclaimableBytes)} can be freed; ${limit}`;
  const last =
    lastBuild === null
      ? "No build by gpuctl is remembered here."
      : `Last build: ${lastBuild.image}, ${lastBuild.at}, ${lastBuild.seconds} s, ${steps(lastBuild)} (builder ${lastBuild.builder})`;
  return [`Builder ${name} (${driver}), ${status}`, held, last].join("\n");
}

export function cacheClearText({ builder, shared, before, freedBytes }: CacheClear): string {
  const whose = shared ? `\nIt is the cache of every build with the builder ${builder}, not of gpuctl alone.` : "";
  if (freedBytes !== null)
    return `Freed ${size(freedBytes)} of the cache of the builder ${builder} (it had ${size(before.bytes)}).`;
  return `Would free ${size(before.reclaimableBytes)} in ${before.entries} entries of the builder ${builder}.${whose}
Nothing was freed yet: gpuctl images cache clear --confirm, or --limit 5GB`;
}
