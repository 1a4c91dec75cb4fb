/** Whether a file of a stored model is its graph, or the weights of a large one beside it. */
export const isGraph = (file: string): boolean => file === "model.onnx" || file === "model.onnx.data";
