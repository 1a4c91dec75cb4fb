import type { Progress, ProgressEvent } from "../../cli/src/ports.js";

/** Remembers every event. */
export class CollectingProgress implements Progress {
  readonly events: ProgressEvent[] = [];

  emit(event: ProgressEvent): void {
    this.events.push(event);
  }

  get warnings(): readonly string[] {
    return this.events.flatMap((event) => (event.kind === "warning" ? [event.text] : []));
  }
}
