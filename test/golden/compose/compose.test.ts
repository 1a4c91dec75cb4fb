import { describe, expect, test } from "vitest";
import { renderProxyCaddyfile, renderIngressCaddyfile } from "../../../cli/src/domain/compose/render-caddyfile.js";
import { renderCompose } from "../../../cli/src/domain/compose/render-compose.js";
import { cases } from "../../unit/compose/nodes.js";

describe.each(Object.entries(cases))("what a node gets: %s", (name, node) => {
  test("compose.yaml", async () => {
    await expect(renderCompose(node)).toMatchFileSnapshot(`./${name}.compose.yaml`);
  });

  test.runIf(node.services.length > 0)("the proxy's Caddyfile", async () => {
    await expect(renderProxyCaddyfile(node)).toMatchFileSnapshot(`./${name}.Caddyfile`);
  });

  test.runIf(node.ingress !== null)("the ingress's Caddyfile", async () => {
    await expect(renderIngressCaddyfile(node, node.ingress!)).toMatchFileSnapshot(`./${name}-front.Caddyfile`);
  });
});
