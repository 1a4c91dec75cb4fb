/** What can only be read: the catalogue, prices and actions. */
import { ok, page, type Call, type Route } from "./routing.js";
import { ApiError } from "./world.js";

interface Named {
  id: number;
  name: string;
}

const byName = <Item extends Named>(call: Call, items: readonly Item[]): Item[] => {
  const name = call.query.get("name");
  return items.filter((item) => name === null || item.name === name);
};

function one(items: readonly Named[], id: string | undefined, kind: string): Named {
  const found = items.find((item) => item.id === Number(id));
  if (found === undefined) throw new ApiError(404, "not_found", `${kind} with ID '${id ?? ""}' not found`);
  return found;
}

const pair = (plural: string, singular: string, items: (call: Call) => readonly Named[]): Route[] => [
  ["GET", new RegExp(`^/${plural}$`), (call) => page(call, plural, byName(call, items(call)))],
  ["GET", new RegExp(`^/${plural}/(\\d+)$`), (call) => ok({ [singular]: one(items(call), call.params[0], singular) })],
];

const images = (call: Call): readonly Named[] => {
  const architecture = call.query.get("architecture");
  return call.catalogue.images.filter((image) => architecture === null || image.architecture === architecture);
};

export const readRoutes: readonly Route[] = [
  ...pair("server_types", "server_type", ({ catalogue }) => catalogue.serverTypes),
  ...pair("locations", "location", ({ catalogue }) => catalogue.locations),
  ...pair("load_balancer_types", "load_balancer_type", ({ catalogue }) => catalogue.loadBalancerTypes),
  ...pair("images", "image", images),
  ...pair("isos", "iso", () => []),
  ["GET", /^\/pricing$/, ({ catalogue }) => ok({ pricing: catalogue.pricing })],
  // Gone since October 2026, with an error that names it.
  [
    "GET",
    /^\/datacenters(?:\/\d+)?$/,
    () => {
      throw new ApiError(410, "deprecated_api_endpoint", "the endpoint is gone, use locations", {
        announcement: "https://docs.hetzner.cloud/changelog",
      });
    },
  ],
  ["GET", /^\/actions\/(\d+)$/, ({ world, params }) => ok({ action: world.action(params[0]) })],
  [
    "GET",
    /^\/actions$/,
    (call) => {
      const ids = call.query.getAll("id");
      if (ids.length === 0) throw new ApiError(410, "deprecated_api_endpoint", "actions can only be listed by their id");
      const order = { running: 0, success: 1, error: 2 };
      const actions = ids.map((id) => call.world.action(id));
      return page(
        call,
        "actions",
        actions.sort((left, right) => order[left.status] - order[right.status] || left.id - right.id),
      );
    },
  ],
  ["GET", /^\/\w+\/(\d+)\/actions\/(\d+)$/, ({ world, params }) => ok({ action: world.action(params[1]) })],
];
