/* What the page does by itself. Listeners are delegated, so that whatever the server sends later is covered too. */
(() => {
  "use strict";
  if (window.passkb) return;
  const find = (selector, root = document) => root.querySelector(selector);
  const narrow = matchMedia("(max-width: 899px)");
  let lastMark = null;
  let lastOpened = null;
  let shownSearch = null;
  let pendingTab = 0;
  let awaiting = null;

  // -- the bridge to the server: events of a hidden component ------------------------------------------------------

  const send = (name, data) => window.passkbSend?.(name, data);

  /* While the page is being built the tab may not be there yet, or not listen: tried again for some seconds. */
  const openTab = (name, tries = 60) => {
    const button = find(`#tab-${name}-button`);
    if (button?.getAttribute("aria-selected") === "true") return;
    button?.click();
    clearTimeout(pendingTab);
    if (tries) pendingTab = setTimeout(openTab, 60, name, tries - 1);
  };
  const openRun = (run, push = true) => {
    closeSheet();
    showSources(false);
    openTab("experiments");
    if (push) remember(run ? `?run=${encodeURIComponent(run)}` : "");
    send("open_run", { run });
    scrollTo({ top: 0 });
  };

  /* Fills the form with a claim's test, an example, or the spec that a link carries; starts nothing. */
  const fill = (claim, preset, push = true, spec = "") => {
    closeSheet();
    showSources(false);
    openTab("experiments");
    if (push) remember(claim ? `?claim=${encodeURIComponent(claim)}` : "");
    send("fill_form", { claim, preset, spec });
    scrollTo({ top: 0 });
  };

  const onNotes = () => find("#tab-notes-button")?.getAttribute("aria-selected") === "true";

  const remember = (search) => {
    if (location.search !== search) history.pushState(null, "", location.pathname + search);
    shownSearch = search;
  };

  const walk = (note, push = true) => {
    closeSheet();
    showSources(false);
    openTab("notes");
    if (push) remember(note ? `?note=${encodeURIComponent(note)}` : "");
    send("open_note", { note });
    scrollTo({ top: 0 });
  };

  /* `mode`: generated or quoted; without one, as the page is set. */
  const ask = (question, push = true, mode = "") => {
    closeSheet();
    showSources(false);
    openTab("ask");
    if (push) rememberQuestion(question);
    send("ask_question", { question, mode });
    scrollTo({ top: 0 });
  };

  const rememberQuestion = (question) => {
    const words = String(question ?? "").split(/\s+/).join(" ").trim();
    if (words && words.length <= 2000) remember(`?q=${encodeURIComponent(words)}`);
    document.title = words ? `${words.slice(0, 80)} · passkb` : "passkb";
  };

  /* Opens what the address names. At the first `loading` the server has read it too, and sends the note by itself. */
  const route = (loading) => {
    const wanted = new URLSearchParams(location.search);
    shownSearch = location.search;
    if (wanted.get("note")) loading ? openTab("notes") : walk(wanted.get("note"), false);
    else if (wanted.get("q")) ask(wanted.get("q"), false);
    else if (wanted.get("run")) loading ? openTab("experiments") : openRun(wanted.get("run"), false);
    else if (wanted.get("claim")) fill(wanted.get("claim"), "", false);
    else if (wanted.get("spec")) fill("", "", false, wanted.get("spec"));
    else openTab("ask");
  };

  // -- sources -----------------------------------------------------------------------------------------------------

  const openSource = (mark) => {
    const key = mark.closest("[data-exchange]")?.dataset.exchange;
    const source = document.getElementById(`source-${key}-${mark.dataset.cite}`);
    const slot = find("#sources .slot");
    if (!source || !slot) return;
    const copy = source.cloneNode(true);
    copy.removeAttribute("id");
    slot.replaceChildren(copy);
    for (const other of document.querySelectorAll(".cite[aria-current]")) other.removeAttribute("aria-current");
    mark.setAttribute("aria-current", "true");
    lastMark = mark;
    lastOpened = { key, number: mark.dataset.cite };
    if (narrow.matches) openSheet();
    else find("#source-column").scrollTop = 0;
    find("mark", copy)?.scrollIntoView({ block: "nearest" });
  };

  /* An answer is drawn again when its offers have their costs: the citation that was open stays marked. */
  const remark = () => {
    if (!lastMark || lastMark.isConnected || !find("#sources .slot")?.firstElementChild) return;
    const again = find(`[data-exchange="${lastOpened.key}"] .cite[data-cite="${lastOpened.number}"]`);
    if (!again) return;
    again.setAttribute("aria-current", "true");
    lastMark = again;
  };

  const openSheet = () => {
    document.documentElement.classList.add("sheet-open");
    find("#sources [data-close]")?.focus({ preventScroll: true });
  };
  const closeSheet = () => {
    if (!document.documentElement.classList.contains("sheet-open")) return;
    document.documentElement.classList.remove("sheet-open");
    lastMark?.focus({ preventScroll: true });
  };

  // -- what was asked in this browser: kept here, and nowhere else ---------------------------------------------------------

  const STORE = "passkb-asked";
  const KEPT = 20;
  const remembered = () => {
    try {
      const found = JSON.parse(localStorage.getItem(STORE) ?? "[]");
      return Array.isArray(found) ? found.filter((entry) => typeof entry?.text === "string") : [];
    } catch {
      return [];
    }
  };
  const keepRecord = (record) => {
    const { at } = record.dataset;
    const question = find(".question", record.parentElement)?.textContent ?? "";
    const others = remembered().filter((entry) => entry.at !== at && entry.question !== question);
    let entries = [...others, { at, question, text: record.textContent }].slice(-KEPT);
    record.remove();
    while (entries.length) {
      try {
        localStorage.setItem(STORE, JSON.stringify(entries));
        return;
      } catch {
        entries = entries.slice(1); // the browser's room is used up: the oldest goes
      }
    }
  };
  const restore = () => {
    const entries = remembered();
    if (entries.length) send("restore_history", { records: entries.map((entry) => entry.text) });
  };
  const forget = () => {
    localStorage.removeItem(STORE);
    send("clear_history", {});
  };

  // -- an answer as Markdown ------------------------------------------------------------------------------------------------

  const say = (button, words) => {
    const before = button.textContent;
    button.textContent = words;
    setTimeout(() => (button.textContent = before), 1800);
  };
  const copy = async (button) => {
    const words = find(".markdown", button.closest("[data-exchange]"))?.textContent ?? "";
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      const area = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: words }));
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    say(button, "Copied");
  };
  const download = () => {
    const texts = [...document.querySelectorAll("#earlier [data-exchange], #answer [data-exchange]")].map((one) => find(".markdown", one)?.textContent);
    const file = new Blob([texts.filter(Boolean).join("\n\n---\n\n")], { type: "text/markdown" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "passkb-answers.md" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  // -- what is indexed: a panel under the header, made anew whenever it is opened -----------------------------------------

  const showSources = (open) => {
    const toggle = find("#status-toggle");
    if (!toggle || document.documentElement.classList.contains("sources-open") === open) return;
    document.documentElement.classList.toggle("sources-open", open);
    toggle.setAttribute("aria-expanded", String(open));
    if (open) send("open_sources", {});
  };

  // -- experiments: only a person's own click starts, stops or resumes one; a click that a script makes is not trusted ---------

  const act = (button) => {
    const { start, stop, goOn, keep, tend, of, from, to, type, why } = button.dataset;
    if (tend !== undefined) send("change_note", { act: tend, of, from, to, type, why });
    else if (keep !== undefined) {
      const exchange = button.closest("[data-exchange]") ?? button.closest(".kept")?.previousElementSibling;
      send("save_answer", { key: exchange?.dataset.exchange, replace: button.hasAttribute("data-replace") });
    } else if (start !== undefined) send("start_run", { claim: start, again: button.hasAttribute("data-again") });
    else if (stop !== undefined) send("cancel_run", { run: stop });
    else send("resume_run", { run: goOn });
    button.disabled = true;
    setTimeout(() => (button.disabled = false), 4000);
  };

  // -- listeners ---------------------------------------------------------------------------------------------------

  document.addEventListener("click", (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const target = event.target instanceof Element ? event.target : null;
    const button = target?.closest("button:is([data-start], [data-stop], [data-go-on], [data-keep], [data-tend])");
    if (button) {
      if (event.isTrusted) act(button);
      return;
    }
    const link = target?.closest(
      "[data-cite], [data-note], [data-ask], [data-run], [data-fill], [data-new], [data-tab], [data-close], [data-sheet], [data-sources], [data-copy], [data-export], [data-forget], a[href^='#']");
    if (!link) {
      if (document.documentElement.classList.contains("sheet-open") && !target?.closest("#source-column")) closeSheet();
      return;
    }
    event.preventDefault();
    const { cite, note, ask: question, run, fill: claim, preset, tab } = link.dataset;
    if (cite !== undefined) openSource(link);
    else if (note !== undefined) walk(note);
    else if (question !== undefined) ask(question, true, link.dataset.mode ?? "");
    else if (link.hasAttribute("data-copy")) copy(link);
    else if (link.hasAttribute("data-export")) download();
    else if (link.hasAttribute("data-forget")) forget();
    else if (run !== undefined) openRun(run);
    else if (claim !== undefined) fill(claim, preset ?? "");
    else if (link.hasAttribute("data-new")) openRun("");
    else if (tab !== undefined) openTab(tab);
    else if (link.hasAttribute("data-close")) closeSheet();
    else if (link.hasAttribute("data-sources")) showSources(!document.documentElement.classList.contains("sources-open"));
    else if (link.hasAttribute("data-sheet")) narrow.matches ? openSheet() : find("#sources")?.scrollIntoView({ block: "nearest" });
    else {
      const target = document.getElementById(link.getAttribute("href").slice(1));
      if (target instanceof HTMLDetailsElement) target.open = true;
      target?.scrollIntoView({ block: "nearest" });
    }
  });

  document.addEventListener("keydown", (event) => {
    const target = event.target instanceof Element ? event.target : document.body;
    const typing = target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "Escape") {
      closeSheet();
      if (target.closest("#sources-status")) find("#status-toggle")?.focus();
      showSources(false);
    }
    if (event.key === "/" && !typing && !event.metaKey && !event.ctrlKey && !event.altKey) {
      const field = find(onNotes() ? "#note-search :is(input, textarea)" : "#ask-input :is(input, textarea)");
      if (field) {
        event.preventDefault();
        field.focus();
        field.select();
      }
    }
    if (target.closest("#note-search") && (event.key === "Enter" || event.key === "ArrowDown")) {
      const first = find("#note-results [data-note]");
      if (first) {
        event.preventDefault();
        event.key === "Enter" ? first.click() : first.focus();
      }
    }
  }, true);

  const tell = (event) => {
    const pointed = event.target instanceof Element ? event.target.closest("[data-caption]") : null;
    const caption = pointed && find(".caption", pointed.closest("figure"));
    if (caption) caption.textContent = pointed.dataset.caption;
  };
  document.addEventListener("mouseover", tell);
  document.addEventListener("focusin", tell);

  addEventListener("popstate", () => {
    if (location.search !== shownSearch) route(false);
  });

  /* A note's title is the tab's title once it has come; a page that waited for the first notes is made anew. */
  new MutationObserver(() => {
    remark();
    for (const record of document.querySelectorAll("#answer .record")) keepRecord(record);
    if (find(".welcome[data-reading]") && find("#status .status-line") && !find("#status .going")) location.reload();
    const shown = find("#experiment-list [aria-current] [data-run]")?.dataset.run;
    if (awaiting && shown && shown !== awaiting.before) {
      awaiting = null;
      remember(`?run=${encodeURIComponent(shown)}`);
      scrollTo({ top: 0 });
    }
    const title = onNotes() && location.search.startsWith("?note=") && find("#note-title h1")?.textContent;
    if (title && document.title !== `${title} · passkb`) document.title = `${title} · passkb`;
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  const begin = () => {
    restore();
    route(true);
  };
  document.addEventListener("passkb-ready", begin);
  /* The form was sent: the run that it opens is remembered in the address once it has come. */
  const expectRun = () => {
    awaiting = { before: find("#experiment-list [aria-current] [data-run]")?.dataset.run };
  };

  window.passkb = { rememberQuestion, expectRun };
  if (window.passkbSend) begin();
})();
