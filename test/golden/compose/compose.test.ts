import { describe, expect, test } from "vitest";
import { renderProxyCaddyfile, renderIngressCaddyfile } from "../../../cli/src/domain/compose/render-caddyfile.js";
import { hostDirectories, layoutOf } from "../../../cli/src/domain/compose/host-files.js";
import { renderReadme } from "../../../cli/src/domain/compose/render-readme.js";
import { renderCompose } from "../../../cli/src/domain/compose/render-compose.js";
import { cases } from "../../unit/compose/nodes.js";

const all = Object.entries(cases);

describe("what a node gets", () => {
  test.each(all)("%s: compose.yaml", async (name, node) => {
    await expect(renderCompose(node)).toMatchFileSnapshot(`./${name}.compose.yaml`);
  });

  test.each(all.filter(([, { services }]) => services.length > 0))("%s: the proxy's Caddyfile", async (name, node) => {
    await expect(renderProxyCaddyfile(node)).toMatchFileSnapshot(`./${name}.Caddyfile`);
  });

  test.each(all.filter(([, { ingress }]) => ingress !== null))("%s: the ingress's Caddyfile", async (name, node) => {
    await expect(renderIngressCaddyfile(node, node.ingress!)).toMatchFileSnapshot(`./${name}-front.Caddyfile`);
  });
});

test.each(["one-gpu", "fallback", "ingress-alone"])("README.txt of %s", async (name) => {
  const node = cases[name]!;
  await expect(renderReadme(node, layoutOf(node))).toMatchFileSnapshot(`./${name}.README.txt`);
});

test("the directories of a node, with modes and owners", async () => {
  const listed = hostDirectories({ ...cases["one-gpu"]!, services: [...cases["keys"]!.services, ...cases["one-gpu"]!.services.slice(1)] });
  const lines = listed.map(({ path, mode, owner }) => `${mode.toString(8).padStart(4, "0")} ${owner.padEnd(11)} ${path}`);
  await expect(`${lines.join("\n")}\n`).toMatchFileSnapshot("./directories.txt");
});
