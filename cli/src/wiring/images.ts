/** What `gpuctl images` works with: the Docker of this machine, the files of this package, the lock of the project. */
import type { EnvironmentConfig } from "../domain/config/resolved.js";
import type { ImageLock, ImageTools } from "../ports/images.js";
import { createTools, type ToolsRequest } from "../wiring.js";

export async function createImageTools(request: ToolsRequest): Promise<ImageTools> {
  const [{ executor, clock }, { PackageBuildContext }, { CachedBuildNotes }, { cacheHome }] = await Promise.all([
    createTools(request),
    import("../adapters/images/package-context.js"),
    import("../adapters/images/build-notes.js"),
    import("../adapters/state/directories.js"),
  ]);
  const { progress, signal, gpuctlVersion, packageRoot, env } = request;
  return {
    executor,
    clock,
    progress,
    signal,
    gpuctlVersion,
    packageRoot,
    context: new PackageBuildContext(packageRoot),
    notes: new CachedBuildNotes(cacheHome(env)),
  };
}

/** The same with the lock beside gpuctl.yaml, for what pins images. */
export async function createPushTools(
  config: EnvironmentConfig,
  request: ToolsRequest,
): Promise<ImageTools & { lock: ImageLock }> {
  const [tools, { ModelLock }] = await Promise.all([createImageTools(request), import("../adapters/models/model-lock.js")]);
  return { ...tools, lock: new ModelLock(config.projectFile) };
}
