// An ES module with top-level await.
const ready = await Promise.resolve(true);

export const handler = async (event) => (ready ? event.value : null);
