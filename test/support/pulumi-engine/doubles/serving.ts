/**
 * Providers served from the test process: Pulumi's engine attaches to them by PULUMI_DEBUG_PROVIDERS and speaks its own protocol with
 * them, so the program, the engine, its state and its secrets are real.
 *
 * What that proves: which resources the program makes, in which order, with which inputs; what a change updates, replaces or leaves;
 * what is secret in the state; what the engine does after failures. What it does not prove: that the released provider plugins
 * accept these inputs. Which change replaces is a table of ours, copied from what the providers' sources say; no schema is checked.
 */
import { Server, ServerCredentials, type handleUnaryCall, type UntypedServiceImplementation } from "@grpc/grpc-js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import proto from "@pulumi/pulumi/proto/provider_pb.js";
import services from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import { serviceError } from "./failing.js";
import type { Call, ProviderDouble } from "./provider.js";
import { ResourceCalls } from "./resource-calls.js";
import { fromStruct, plainProperties, type Properties } from "./values.js";

export interface Doubles {
  calls: Call[];
  /** Environment for `pulumi`. */
  env: Readonly<Record<string, string>>;
  close: () => void;
}

/** Starts a server for each provider, on free ports of the loopback. */
export async function startDoubles(doubles: readonly ProviderDouble[]): Promise<Doubles> {
  const calls: Call[] = [];
  const servers: Server[] = [];
  const addresses: string[] = [];
  for (const double of doubles) {
    const server = new Server({ "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 });
    server.addService(services.ResourceProviderService, implementation(double, calls));
    addresses.push(`${double.name}:${await bind(server)}`);
    servers.push(server);
  }
  return {
    calls,
    env: { PULUMI_DEBUG_PROVIDERS: addresses.join(",") },
    close: () => {
      for (const server of servers) server.forceShutdown();
    },
  };
}

const bind = (server: Server): Promise<number> =>
  new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(error);
    });
  });

function implementation(double: ProviderDouble, calls: Call[]): UntypedServiceImplementation {
  const resources = new ResourceCalls(double, calls);
  // The engine opens a connection for every instance of a provider and configures each for itself.
  const configurations = new Map<string, Properties>();
  const on =
    <Asked, Answer>(handle: (asked: Asked, configuration: Properties, peer: string) => Answer | Promise<Answer>) =>
    (...[call, answer]: Parameters<handleUnaryCall<Asked, Answer>>): void => {
      const peer = call.getPeer();
      const handled = (async () => handle(call.request, configurations.get(peer) ?? {}, peer))();
      void handled.then(
        (response) => {
          answer(null, response);
        },
        (error: unknown) => {
          answer(serviceError(error));
        },
      );
    };
  return {
    attach: on(() => new empty.Empty()),
    // What runs goes on to its end: nothing of ours can be stopped halfway.
    cancel: on(() => {
      calls.push({ provider: double.name, method: "cancel", type: "", name: "" });
      return new empty.Empty();
    }),
    getPluginInfo: on(() => new plugin.PluginInfo().setVersion(double.version)),
    getSchema: on(() => new proto.GetSchemaResponse().setSchema("{}")),
    checkConfig: on((asked: proto.CheckRequest) => new proto.CheckResponse().setInputs(asked.getNews())),
    diffConfig: on(() => new proto.DiffResponse()),
    configure: on((asked: proto.ConfigureRequest, _none, peer) => {
      const given = plainProperties(fromStruct(asked.getArgs()));
      configurations.set(peer, double.configure?.(given) ?? given);
      calls.push({ provider: double.name, method: "configure", type: "", name: "", inputs: given });
      const answer = new proto.ConfigureResponse().setAcceptsecrets(true).setAcceptresources(true);
      return answer.setAcceptoutputs(true).setSupportspreview(true);
    }),
    check: on((asked: proto.CheckRequest) => resources.check(asked)),
    diff: on((asked: proto.DiffRequest) => resources.diff(asked)),
    create: on((asked: proto.CreateRequest, configuration) => resources.create(asked, configuration)),
    update: on((asked: proto.UpdateRequest, configuration) => resources.update(asked, configuration)),
    read: on((asked: proto.ReadRequest, configuration) => resources.read(asked, configuration)),
    delete: on((asked: proto.DeleteRequest, configuration) => resources.delete(asked, configuration)),
    invoke: on((asked: proto.InvokeRequest, configuration) => resources.invoke(asked, configuration)),
  };
}
