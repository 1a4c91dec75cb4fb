import { parseYaml } from "../../cli/src/adapters/config/yaml-source.js";
import type { SourceDocument } from "../../cli/src/domain/config/source.js";
import type { ConfigFiles } from "../../cli/src/ports.js";

/** Configuration files that are only remembered, by absolute path. */
export class MemoryConfigFiles implements ConfigFiles {
  readonly written = new Map<string, string>();

  constructor(files: Readonly<Record<string, string>> = {}) {
    for (const [path, text] of Object.entries(files)) this.written.set(path, text);
  }

  absolute(path: string, cwd: string): string {
    return path.startsWith("/") ? path : path === "." ? cwd : `${cwd}/${path}`;
  }

  find(from: string): Promise<{ found: string } | { found: null; searched: readonly string[]; nearMiss: string | null }> {
    const path = `${from}/gpuctl.yaml`;
    return Promise.resolve(this.written.has(path) ? { found: path } : { found: null, searched: [from], nearMiss: null });
  }

  read(path: string): Promise<{ realPath: string; document: SourceDocument } | null> {
    const text = this.written.get(path);
    return Promise.resolve(text === undefined ? null : { realPath: path, document: parseYaml(path, text) });
  }

  create(path: string, text: string): Promise<boolean> {
    if (this.written.has(path)) return Promise.resolve(false);
    this.written.set(path, text);
    return Promise.resolve(true);
  }
}
