import { mkdirSync, readFileSync, realpathSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { directoriesOf, runDirectory } from "../../../cli/src/adapters/state/directories.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const golden = JSON.parse(readFileSync(fileURLToPath(new URL("../../golden/run-directory.json", import.meta.url)), "utf8")) as {
  vectors: { uid: number; state: string; run: string }[];
};

const project = (home: string) => ({ project: "demo", environment: "local", projectFile: join(home, "gpuctl.yaml") });

describe("the run directory", () => {
  it.each(golden.vectors)("of $state is $run", ({ uid, state, run }) => {
    expect(runDirectory(state, uid)).toBe(run);
  });
});

describe("the directories of an environment", () => {
  it("follow the XDG variables, and their defaults below the home directory", () => {
    const home = temporary();
    const found = directoriesOf(project(home), { HOME: "/home/ada", XDG_STATE_HOME: "relative/is/ignored" });
    expect(found.state).toMatch(/^\/home\/ada\/\.local\/state\/gpuctl\/demo-[0-9a-f]{8}\/local$/);
    expect(found.cache).toBe("/home/ada/.cache/gpuctl");
    expect(found.models).toBe("/home/ada/.local/share/gpuctl/models");
    const xdg = directoriesOf(project(home), {
      HOME: "/home/ada",
      XDG_STATE_HOME: "/s",
      XDG_CACHE_HOME: "/c",
      XDG_DATA_HOME: "/d",
    });
    expect([xdg.state.startsWith("/s/gpuctl/demo-"), xdg.cache, xdg.models]).toEqual([true, "/c/gpuctl", "/d/gpuctl/models"]);
  });

  it("are gpuctl's own variables where those are set", () => {
    const found = directoriesOf(project(temporary()), {
      HOME: "/h",
      GPUCTL_STATE_HOME: "/s",
      GPUCTL_CACHE_DIR: "/c",
      GPUCTL_MODEL_STORE: "/m",
    });
    expect([found.state.startsWith("/s/demo-"), found.cache, found.models]).toEqual([true, "/c", "/m"]);
  });

  it("differ for two clones, and are the same however a clone is reached", () => {
    const [one, two] = [temporary(), temporary()];
    mkdirSync(join(one, "clone"));
    symlinkSync(join(one, "clone"), join(two, "link"));
    const state = (home: string): string => directoriesOf(project(home), { HOME: "/h" }).state;
    expect(state(join(two, "link"))).toBe(state(realpathSync(join(one, "clone"))));
    expect(state(one)).not.toBe(state(two));
  });
});
