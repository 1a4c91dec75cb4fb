import type { ModelUse, ModelUses } from "../../cli/src/ports.js";

/** Users of models as a test lists them; remembers what was claimed and removed. */
export class ListedUses implements ModelUses {
  readonly claimed: { directory: string; lock: string }[] = [];
  readonly removed: string[] = [];
  named: ModelUse[] = [];
  downloads: { directory: string; bytes: number }[] = [];
  /** When directories were made; long ago unless said otherwise. */
  readonly made = new Map<string, number>();

  claim(directory: string, lock: string): Promise<void> {
    this.claimed.push({ directory, lock });
    return Promise.resolve();
  }

  uses(): Promise<readonly ModelUse[]> {
    return Promise.resolve(this.named);
  }

  abandoned(): Promise<readonly { directory: string; bytes: number }[]> {
    return Promise.resolve(this.downloads);
  }

  changed(directory: string): Promise<number> {
    return Promise.resolve(this.made.get(directory) ?? 0);
  }

  remove(directory: string): Promise<void> {
    this.removed.push(directory);
    return Promise.resolve();
  }
}
