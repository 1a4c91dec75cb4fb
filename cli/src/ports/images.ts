/** What `gpuctl images` works with: the Docker of this machine, and no node. */
import type { LastBuild } from "../domain/images/cache.js";
import type { ContextFiles } from "../domain/images/contents.js";
import type { LockedImage } from "../domain/images/registry.js";
import type { Clock, Executor, Progress } from "../ports.js";

/** What the services' image is built from, in the installed package. */
export interface BuildContext {
  /** Directory with the Dockerfile. */
  readonly directory: string;
  /** Hashes of all files that a build sees. Throws Failed when the package lacks one. */
  files(): Promise<ContextFiles>;
  /** What the build of the package noted of its commit; null where it noted nothing. */
  packedRevision(): Promise<SourceRevision | null>;
}

/** The commit that an image was built from. */
export interface SourceRevision {
  /** Full hash, with `-dirty` when files of the image are not as committed; `unknown` where nobody knows. */
  revision: string;
  /** When it was committed, ISO 8601; null when that is not known. */
  created: string | null;
}

/** The images in gpuctl.lock.json beside gpuctl.yaml, by their names (`services-cpu`). */
export interface ImageLock {
  readonly file: string;
  readImages(): Promise<Readonly<Record<string, LockedImage>>>;
  /** Pins one; models and other images stay as they are. */
  writeImage(name: string, image: LockedImage): Promise<void>;
}

/** What gpuctl remembers about builds on this machine. */
export interface BuildNotes {
  lastBuild(): Promise<LastBuild | null>;
  remember(build: LastBuild): Promise<void>;
  /** Writes the settings of a builder to a file that Docker reads; its path. */
  builderConfig(text: string): Promise<string>;
}

export interface ImageTools {
  executor: Executor;
  clock: Clock;
  progress: Progress;
  signal: AbortSignal;
  gpuctlVersion: string;
  /** Where this gpuctl lies: the commit in the image's labels is that of the checkout, when it is one. */
  packageRoot: string;
  context: BuildContext;
  notes: BuildNotes;
}
