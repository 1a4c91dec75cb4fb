import { deploy } from "../../cli/src/app/deploy.js";
import { rollback } from "../../cli/src/app/rollback.js";
import { ms } from "../../cli/src/domain/units.js";
import { Environment, type Cli } from "../fakes/environment.js";
import { runDeploy } from "./lifecycle.js";

/** One way in which a person changes an environment, from the state before it to the command. */
export interface Scenario {
  name: string;
  prepare(): Promise<Environment>;
  act(cli: Cli): Promise<unknown>;
  /** Whether every service answers before, and so must never stop answering. */
  serves: boolean;
}

const noWait = ms(0);
const act = (cli: Cli): Promise<unknown> => deploy(cli.ctx, { service: undefined, lockWait: noWait });
const back = (cli: Cli): Promise<unknown> => rollback(cli.ctx, { service: undefined, to: undefined, lockWait: noWait });

async function deployed(change: (environment: Environment) => void = () => undefined): Promise<Environment> {
  const environment = new Environment();
  environment.service("embedder").secrets = { API_KEYS: { env: "KEYS" } };
  environment.secrets.values.set("KEYS", "first");
  await runDeploy(environment);
  environment.machine.items.push(...Array.from({ length: 7 }, (_, i) => ({ id: `doc${i}`, text: `text ${i}` })));
  change(environment);
  return environment;
}

async function deployedTwice(between: (environment: Environment) => void): Promise<Environment> {
  const environment = await deployed(between);
  await runDeploy(environment);
  return environment;
}

const newCode = (environment: Environment): void => {
  environment.code.wheel = "wheel-two";
};
const newModel = (environment: Environment): void => {
  environment.service("embedder").model = "large";
  environment.service("reranker").model = "large";
};

/** Every way that crosses another part of the lifecycle. */
export const scenarios: readonly Scenario[] = [
  {
    name: "a first deploy",
    prepare: () => Promise.resolve(new Environment(["embedder", "index"])),
    act,
    serves: false,
  },
  { name: "new code for every service", prepare: () => deployed(newCode), act, serves: true },
  {
    name: "an option of one service",
    prepare: () =>
      deployed((environment) => {
        environment.set("reranker", "GPUCTL_MAX_BATCH_TOKENS", "4096");
      }),
    act,
    serves: true,
  },
  { name: "another embedding model", prepare: () => deployed(newModel), act, serves: true },
  { name: "a warm rollback", prepare: () => deployedTwice(newCode), act: back, serves: true },
  {
    name: "a cached rollback over an embedding model",
    prepare: async () => {
      const environment = await deployedTwice(newModel);
      environment.clock.pass(700_000);
      return environment;
    },
    act: back,
    serves: true,
  },
  {
    name: "a deploy without memory for two",
    prepare: () =>
      deployed((environment) => {
        newCode(environment);
        environment.machine.memoryMiB = 1900;
      }),
    act,
    serves: false,
  },
  {
    name: "a deploy after a reboot",
    prepare: () =>
      deployed((environment) => {
        environment.machine.reboot();
      }),
    act,
    serves: false,
  },
  {
    name: "a service taken out",
    prepare: () =>
      deployed((environment) => {
        delete environment.config.services.reranker;
      }),
    act,
    serves: false,
  },
];
