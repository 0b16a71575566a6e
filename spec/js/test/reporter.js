/** One line of JSON for each test, for the Python tests that run these. */

export default async function* report(events) {
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    const { cause, message } = data.details.error ?? {};
    const error = type === "test:fail" ? String(cause?.stack ?? message) : "";
    yield `${JSON.stringify({ name: data.name, ok: type === "test:pass", skipped: Boolean(data.skip), error })}\n`;
  }
}
