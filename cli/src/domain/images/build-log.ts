import type { BuildSteps } from "./cache.js";

/** Something worth a line while a build runs. */
export type BuildEvent = { kind: "step"; text: string; cached: boolean } | { kind: "work"; text: string };

/** What is kept of the output of a step that may fail. */
const keptLines = 3;

/**
 * Reads `docker buildx build --progress plain` line by line: `#9 [packages 2/3] COPY …` names a step, `#9 CACHED` and
 * `#9 DONE 0.2s` say how it ended, `#9 1.234 text` is what it printed. The form has been the same since BuildKit 0.8.
 */
export class BuildLog {
  readonly #names = new Map<string, string>();
  readonly #ended = new Map<string, "cached" | "done">();
  readonly #said = new Map<string, string[]>();
  #failed: string | null = null;
  #error: string | null = null;
  #pushed: string | null = null;

  /** Takes one line; gives what a person may want to see of it. */
  line(text: string): BuildEvent | null {
    if (text.startsWith("ERROR: ")) this.#error = text.slice(7);
    const [, id = "", rest = ""] = /^#(\d+) (.+)$/.exec(text) ?? [];
    if (id === "") return null;
    this.#pushed = /^pushing manifest for \S+@(sha256:[0-9a-f]{64})/.exec(rest)?.[1] ?? this.#pushed;
    const step = /^\[(?!internal\])[^\]]*\d+\/\d+\] .+$/.exec(rest)?.[0];
    if (step !== undefined) {
      // It is named again whenever the output returns to it.
      this.#names.set(id, step.replace(/\s+/g, " "));
      return null;
    }
    if (rest === "CACHED" || /^DONE \d/.test(rest)) return this.#end(id, rest === "CACHED");
    if (rest.startsWith("ERROR: ")) {
      this.#failed = id;
      return null;
    }
    return this.#output(id, rest);
  }

  /** Steps of the Dockerfile that ended, without those that only name a base image. */
  get steps(): BuildSteps {
    const ended = [...this.#ended].filter(([id]) => this.#names.has(id) && !(this.#names.get(id) ?? "").includes("] FROM "));
    return { total: ended.length, cached: ended.filter(([, how]) => how === "cached").length };
  }

  /** Digest of what was pushed; null when nothing was. */
  get pushedDigest(): string | null {
    return this.#pushed;
  }

  /** Why it failed, in the words of the step that did, else in BuildKit's own; null when nobody said. */
  get failure(): string | null {
    const said = this.#failed === null ? [] : (this.#said.get(this.#failed) ?? []);
    if (said.length > 0) return said.join("; ");
    return this.#error === null ? null : shortened(this.#error);
  }

  #end(id: string, cached: boolean): BuildEvent | null {
    const name = this.#names.get(id);
    if (name === undefined || this.#ended.has(id)) return null;
    this.#ended.set(id, cached ? "cached" : "done");
    return { kind: "step", text: name.length <= 90 ? name : `${name.slice(0, 89)}…`, cached };
  }

  #output(id: string, rest: string): BuildEvent | null {
    // Minutes as well, for an image with CUDA.
    if (/^(?:exporting layers|pushing layers|sending tarball)$/.test(rest)) return { kind: "work", text: rest };
    const printed = /^\d+\.\d+ (.*\S)\s*$/.exec(rest)?.[1]?.trim();
    if (printed === undefined) return null;
    // pip tells of each attempt, and at the end why it gave up.
    if (!printed.startsWith("WARNING: ")) this.#said.set(id, [...(this.#said.get(id) ?? []), printed].slice(-keptLines));
    return /^Downloading \S+ \(\d{2,}(?:\.\d+)? MB\)$/.test(printed) ? { kind: "work", text: printed } : null;
  }
}

/** BuildKit repeats the whole command of a step in its error: its begin and its end say enough. */
function shortened(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length <= 300 ? line : `${line.slice(0, 160)} … ${line.slice(-137)}`;
}
