import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PackageBuildContext } from "../../../cli/src/adapters/images/package-context.js";
import { Failed, UsageError } from "../../../cli/src/domain/errors.js";
import { buildInputs } from "../../../cli/src/domain/images/build-arguments.js";
import { contentsOf, tagOf } from "../../../cli/src/domain/images/contents.js";
import { packageRoot } from "../../support/run-command.js";
import { temporaryDirectories } from "../../support/temporary.js";

const temporary = temporaryDirectories();
const hash = (digit: string): string => digit.repeat(64);
const files = {
  Dockerfile: hash("1"),
  ".dockerignore": hash("2"),
  "locks/runtime.txt": hash("3"),
  "locks/cuda.txt": hash("4"),
  "src/gpuctl_serving/__init__.py": hash("5"),
};
const inputs = (args: readonly string[] = [], env = {}) => buildInputs(args, [], env);
const cpu = (changed: Record<string, string> = {}, args: readonly string[] = []) =>
  contentsOf({ ...files, ...changed }, "cpu", inputs(args));

describe("the hash of an image's contents", () => {
  it.each(["Dockerfile", ".dockerignore", "locks/runtime.txt", "src/gpuctl_serving/__init__.py", "src/gpuctl_serving/new.py"])(
    "changes with %s",
    (path) => {
      expect(cpu({ [path]: hash("9") })).not.toBe(cpu());
    },
  );

  it("changes with the device, and with nothing of the other device's lock", () => {
    expect(contentsOf(files, "cuda", inputs())).not.toBe(cpu());
    expect(cpu({ "locks/cuda.txt": hash("9") })).toBe(cpu());
    const cuda = (changed = {}) => contentsOf({ ...files, ...changed }, "cuda", inputs());
    expect(cuda({ "locks/runtime.txt": hash("9") })).toBe(cuda());
    expect(cuda({ "locks/cuda.txt": hash("9") })).not.toBe(cuda());
  });

  it("does not change with the place that the base image comes from, but with the image", () => {
    const base = (name: string) => cpu({}, [`BASE_IMAGE=${name}`]);
    expect(base("python:3.13-slim-trixie")).toBe(cpu());
    for (const host of ["mirror.example.net", "mirror.example.net:5000", "localhost", "localhost:5000", "192.0.2.1:5000/library"])
      expect(base(`${host}/python:3.13-slim-trixie`)).toBe(cpu());
    expect(base("python:3.12-slim-trixie")).not.toBe(cpu());
    expect(base("acme/python:3.13-slim-trixie")).not.toBe(cpu());
    expect(base(`python@sha256:${hash("a")}`)).not.toBe(cpu());
  });

  it("does not change with the package index or with proxies, whatever they are", () => {
    const place = fc.tuple(
      fc.constantFrom("PIP_INDEX_URL", "HTTPS_PROXY", "http_proxy", "NO_PROXY"),
      fc.webUrl().filter((url) => !url.includes("@")),
    );
    fc.assert(
      fc.property(fc.array(place), (args) => {
        expect(
          cpu(
            {},
            args.map(([name, value]) => `${name}=${value}`),
          ),
        ).toBe(cpu());
      }),
      { numRuns: 30 },
    );
  });

  it("gives the tag, which says the device", () => {
    expect(tagOf("cuda", hash("a"))).toBe("cuda-aaaaaaaaaaaaaaaa");
  });
});

describe("arguments of a build", () => {
  it("take a value from the environment when they name none", () => {
    expect(inputs(["HTTPS_PROXY"], { HTTPS_PROXY: "http://user:pass@proxy" }).args).toEqual({
      HTTPS_PROXY: { value: "http://user:pass@proxy", inherited: true },
    });
    expect(inputs(["HTTPS_PROXY=http://proxy=1"]).args).toEqual({ HTTPS_PROXY: { value: "http://proxy=1", inherited: false } });
    expect(() => inputs(["HTTPS_PROXY"])).toThrow(UsageError);
  });

  it.each([
    ["DEVICE=cpu", /gpuctl itself decides/],
    ["VERSION=1", /gpuctl itself decides/],
    ["FOO=1", /no such argument/],
    ["base_image=x", /no such argument/],
    ["", /no such argument/],
  ])("are refused when they would be ignored or are not ours to give: %s", (arg, because) => {
    expect(() => inputs([arg])).toThrow(
      expect.objectContaining({ constructor: UsageError, because: expect.stringMatching(because) as string }),
    );
  });

  it("are refused with a password in them, which everybody could read in the image's history", () => {
    expect(() => inputs(["PIP_INDEX_URL=https://user:pass@mirror.example.net/simple"])).toThrow(
      expect.objectContaining({ nextSteps: [expect.stringContaining("--secret id=pip_conf")] }),
    );
    expect(() => inputs(["PIP_INDEX_URL=https://mirror.example.net/simple/a@b"])).not.toThrow();
  });

  it("know two secrets, by Docker's own words", () => {
    expect(buildInputs([], ["id=ca,src=/etc/ca=1.pem", "src=pip.conf,id=pip_conf"], {}).secrets).toEqual({
      ca: "/etc/ca=1.pem",
      pip_conf: "pip.conf",
    });
    for (const secret of ["id=other,src=x", "id=ca", "ca", "id=ca,src="])
      expect(() => buildInputs([], [secret], {})).toThrow(UsageError);
  });
});

describe("what an image is built from", () => {
  it("is what .dockerignore of this package lets through, without caches", async () => {
    const found = Object.keys(await new PackageBuildContext(packageRoot).files());
    expect(found).toEqual(expect.arrayContaining(["Dockerfile", ".dockerignore", "locks/runtime.txt", "locks/cuda.txt"]));
    expect(found).toContain("src/gpuctl_serving/__init__.py");
    expect(found.filter((path) => /__pycache__|\/\.|\.pyc$|tests?\//.test(path))).toEqual([]);
  });

  it("changes when a file does, and says which one is missing", async () => {
    const root = temporary();
    const services = join(root, "compose/services");
    mkdirSync(join(services, "locks"), { recursive: true });
    mkdirSync(join(services, "src/gpuctl_serving/__pycache__"), { recursive: true });
    for (const name of [
      "Dockerfile",
      ".dockerignore",
      "locks/runtime.txt",
      "src/gpuctl_serving/a.py",
      "src/gpuctl_serving/__pycache__/a.pyc",
    ])
      writeFileSync(join(services, name), name);
    const context = new PackageBuildContext(root);
    expect(await context.packedRevision()).toBeNull();
    mkdirSync(join(root, "dist"));
    writeFileSync(join(root, "dist/revision.json"), '{"revision":"abc","created":null}');
    expect(await context.packedRevision()).toEqual({ revision: "abc", created: null });
    await expect(context.files()).rejects.toMatchObject({
      constructor: Failed,
      because: expect.stringContaining("locks/cuda.txt is missing") as string,
    });
    writeFileSync(join(services, "locks/cuda.txt"), "");
    const before = await context.files();
    expect(Object.keys(before)).toHaveLength(5);
    writeFileSync(join(services, "src/gpuctl_serving/a.py"), "changed");
    expect(await context.files()).not.toEqual(before);
  });
});
