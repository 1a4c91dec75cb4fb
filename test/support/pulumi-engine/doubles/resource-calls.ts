/** The engine's questions about resources, answered by the kinds of a double. */
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import proto from "@pulumi/pulumi/proto/provider_pb.js";
import { changedKeys, compare } from "./comparing.js";
import { CarriesResource } from "./failing.js";
import { Unfinished, type Call, type Made, type ProviderDouble, type ResourceKind } from "./provider.js";
import { fromStruct, plainProperties, toStruct, type Properties } from "./values.js";

const typeOf = (urn: string): string => urn.split("::")[2]?.split("$").pop() ?? "";
const nameOf = (urn: string): string => urn.split("::").slice(3).join("::");

export class ResourceCalls {
  readonly #double: ProviderDouble;
  readonly #calls: Call[];

  constructor(double: ProviderDouble, calls: Call[]) {
    this.#double = double;
    this.#calls = calls;
  }

  check(request: proto.CheckRequest): proto.CheckResponse {
    const response = new proto.CheckResponse().setInputs(request.getNews());
    try {
      this.#kind(request.getUrn()).check?.(plainProperties(fromStruct(request.getNews())));
    } catch (error) {
      response.addFailures(new proto.CheckFailure().setReason(error instanceof Error ? error.message : String(error)));
    }
    return response;
  }

  diff(request: proto.DiffRequest): proto.DiffResponse {
    return compare(this.#kind(request.getUrn()), request);
  }

  async create(request: proto.CreateRequest, configuration: Properties): Promise<proto.CreateResponse> {
    // A preview knows the inputs and nothing that is computed from them.
    if (request.getPreview()) return new proto.CreateResponse().setProperties(request.getProperties());
    const kind = this.#kind(request.getUrn());
    const inputs = fromStruct(request.getProperties());
    const bare = plainProperties(inputs);
    const propertiesOf = ({ outputs = {} }: Made) => ({ ...inputs, ...outputs });
    try {
      const made = await kind.create(bare, configuration);
      this.#log("create", request.getUrn(), made.id, bare);
      return new proto.CreateResponse().setId(made.id).setProperties(toStruct(propertiesOf(made)));
    } catch (error) {
      if (!(error instanceof Unfinished)) throw error;
      this.#log("create", request.getUrn(), error.made.id, bare);
      throw new CarriesResource(error.made.id, propertiesOf(error.made), error.message);
    }
  }

  async update(request: proto.UpdateRequest, configuration: Properties): Promise<proto.UpdateResponse> {
    const kind = this.#kind(request.getUrn());
    const inputs = fromStruct(request.getNews());
    const former = { inputs: fromStruct(request.getOldInputs()), outputs: fromStruct(request.getOlds()) };
    const computed = Object.fromEntries(Object.entries(former.outputs).filter(([key]) => !(key in former.inputs)));
    const response = new proto.UpdateResponse();
    if (request.getPreview())
      return response.setProperties(toStruct(kind.unknownWhenChanged === true ? inputs : { ...computed, ...inputs }));
    const type = typeOf(request.getUrn());
    if (kind.update === undefined)
      throw new Error(`the double cannot change ${changedKeys(former.inputs, inputs).join(", ")} of ${type}`);
    const old = { inputs: plainProperties(former.inputs), outputs: plainProperties(former.outputs) };
    const outputs = await kind.update(request.getId(), plainProperties(inputs), old, configuration);
    this.#log("update", request.getUrn(), request.getId(), plainProperties(inputs));
    return response.setProperties(toStruct({ ...computed, ...inputs, ...outputs }));
  }

  async read(request: proto.ReadRequest, configuration: Properties): Promise<proto.ReadResponse> {
    const kind = this.#kind(request.getUrn());
    const known = fromStruct(request.getProperties());
    const found = kind.read === undefined ? {} : await kind.read(request.getId(), plainProperties(known), configuration);
    this.#log("read", request.getUrn(), request.getId());
    // An answer without an id says that it is gone.
    if (found === undefined) return new proto.ReadResponse();
    return new proto.ReadResponse()
      .setId(request.getId())
      .setProperties(toStruct({ ...known, ...found }))
      .setInputs(request.getInputs());
  }

  async delete(request: proto.DeleteRequest, configuration: Properties): Promise<empty.Empty> {
    const known = plainProperties(fromStruct(request.getProperties()));
    await this.#kind(request.getUrn()).delete?.(request.getId(), known, configuration);
    this.#log("delete", request.getUrn(), request.getId());
    return new empty.Empty();
  }

  async invoke(request: proto.InvokeRequest, configuration: Properties): Promise<proto.InvokeResponse> {
    const [token, args] = [request.getTok(), plainProperties(fromStruct(request.getArgs()))];
    if (this.#double.invoke === undefined) throw new Error(`the double has no function ${token}`);
    this.#calls.push({ provider: this.#double.name, method: "invoke", type: token, name: "", inputs: args });
    return new proto.InvokeResponse().setReturn(toStruct(await this.#double.invoke(token, args, configuration)));
  }

  #kind(urn: string): ResourceKind {
    const kind = this.#double.kind(typeOf(urn));
    if (kind === undefined) throw new Error(`the double of ${this.#double.name} has no ${typeOf(urn)}`);
    return kind;
  }

  #log(method: Call["method"], urn: string, id: string, inputs?: Properties): void {
    const call = { provider: this.#double.name, method, type: typeOf(urn), name: nameOf(urn), id };
    this.#calls.push(inputs === undefined ? call : { ...call, inputs });
  }
}
