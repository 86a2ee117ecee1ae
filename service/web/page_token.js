/* The page's token goes with every request to this server. A page that is open for long fetches another. Runs before Gradio. */
(() => {
  "use strict";
  const HEADER = "x-passkb-token";
  const tokenIn = (root) => root.querySelector('meta[name="passkb-token"]')?.content ?? "";
  let token = tokenIn(document);
  const plainFetch = window.fetch.bind(window);
  const fetchToken = async () => {
    const answer = await plainFetch(location.pathname, { headers: { accept: "text/html" }, credentials: "same-origin", cache: "no-store" });
    if (answer.redirected) location.reload(); // signed out
    token = tokenIn(new DOMParser().parseFromString(await answer.text(), "text/html"));
  };
  let renewal = null; // one for all requests that are refused at the same time
  const renewToken = () => (renewal ??= fetchToken().finally(() => (renewal = null)));
  const isOwn = (input) => new URL(input instanceof Request ? input.url : input, location.href).origin === location.origin;
  const signed = (input, options) => {
    const headers = new Headers(options?.headers ?? (input instanceof Request ? input.headers : undefined));
    headers.set(HEADER, token);
    return plainFetch(input instanceof Request ? input.clone() : input, { ...options, headers });
  };
  window.fetch = async (input, options) => {
    if (!isOwn(input)) return plainFetch(input, options);
    let answer = await signed(input, options);
    if (answer.status === 403 && answer.headers.get("x-passkb-refused")) {
      await renewToken();
      answer = await signed(input, options);
      if (answer.status === 403 && answer.headers.get("x-passkb-refused")) notice();
    } else if (answer.status === 401) notice();
    return answer;
  };

  /* A click that the server refuses says so: nothing was done. */
  const notice = () => {
    if (document.querySelector("#stale-page")) return;
    const bar = Object.assign(document.createElement("div"), { id: "stale-page" });
    bar.setAttribute("role", "alert");
    const reload = Object.assign(document.createElement("button"), { type: "button", textContent: "Reload" });
    reload.addEventListener("click", () => location.reload());
    bar.append("This page is out of date, so nothing was done. ", reload);
    document.body.prepend(bar);
  };
})();
