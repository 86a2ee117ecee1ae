/* The page's behaviour in the browser. Listeners are delegated, so that they also cover HTML that the server sends later. */
(() => {
  "use strict";
  if (window.passkb) return;
  const find = (selector, root = document) => root.querySelector(selector);
  const narrow = matchMedia("(max-width: 899px)");
  let openCitation = null; // its element
  let openSourceId = null;
  let shownSearch = null;
  let tabTimer = 0;
  let expectedRun = null;

  // -- events for the server, through a hidden component -----------------------------------------------------------

  const send = (name, data) => window.passkbSend?.(name, data);

  /* Retries for some seconds, because the tab may not exist or react yet while the page is built. */
  const openTab = (name, tries = 60) => {
    const button = find(`#tab-${name}-button`);
    if (button?.getAttribute("aria-selected") === "true") return;
    button?.click();
    clearTimeout(tabTimer);
    if (tries) tabTimer = setTimeout(openTab, 60, name, tries - 1);
  };
  const openRun = (run, push = true) => {
    closeSheet();
    showSources(false);
    openTab("experiments");
    if (push) setAddress(run ? `?run=${encodeURIComponent(run)}` : "");
    send("open_run", { run });
    scrollTo({ top: 0 });
  };

  /* Fills the form with a claim's test, an example, or the spec in a link. Starts nothing. */
  const fillForm = (claim, preset, push = true, spec = "") => {
    closeSheet();
    showSources(false);
    openTab("experiments");
    if (push) setAddress(claim ? `?claim=${encodeURIComponent(claim)}` : "");
    send("fill_form", { claim, preset, spec });
    scrollTo({ top: 0 });
  };

  const notesAreOpen = () => find("#tab-notes-button")?.getAttribute("aria-selected") === "true";

  const setAddress = (search) => {
    if (location.search !== search) history.pushState(null, "", location.pathname + search);
    shownSearch = search;
  };

  const openNote = (note, push = true) => {
    closeSheet();
    showSources(false);
    openTab("notes");
    if (push) setAddress(note ? `?note=${encodeURIComponent(note)}` : "");
    send("open_note", { note });
    scrollTo({ top: 0 });
  };

  /* `mode`: generated or quoted; empty: the mode chosen on the page. */
  const ask = (question, push = true, mode = "") => {
    closeSheet();
    showSources(false);
    openTab("ask");
    if (push) rememberQuestion(question);
    send("ask_question", { question, mode });
    scrollTo({ top: 0 });
  };

  /* Puts a question into the address and the title of the browser tab. */
  const rememberQuestion = (question) => {
    const words = String(question ?? "").split(/\s+/).join(" ").trim();
    if (words && words.length <= 2000) setAddress(`?q=${encodeURIComponent(words)}`);
    document.title = words ? `${words.slice(0, 80)} · passkb` : "passkb";
  };

  /* Opens what the address names. While `loading`, the server sends the note or run by itself. */
  const route = (loading) => {
    const query = new URLSearchParams(location.search);
    shownSearch = location.search;
    if (query.get("note")) loading ? openTab("notes") : openNote(query.get("note"), false);
    else if (query.get("q")) ask(query.get("q"), false);
    else if (query.get("run")) loading ? openTab("experiments") : openRun(query.get("run"), false);
    else if (query.get("claim")) fillForm(query.get("claim"), "", false);
    else if (query.get("spec")) fillForm("", "", false, query.get("spec"));
    else openTab("ask");
  };

  // -- sources -----------------------------------------------------------------------------------------------------

  const openSource = (citation) => {
    const key = citation.closest("[data-exchange]")?.dataset.exchange;
    const source = document.getElementById(`source-${key}-${citation.dataset.cite}`);
    const slot = find("#sources .slot");
    if (!source || !slot) return;
    const copy = source.cloneNode(true);
    copy.removeAttribute("id");
    slot.replaceChildren(copy);
    for (const other of document.querySelectorAll(".cite[aria-current]")) other.removeAttribute("aria-current");
    citation.setAttribute("aria-current", "true");
    openCitation = citation;
    openSourceId = { key, number: citation.dataset.cite };
    if (narrow.matches) openSheet();
    else find("#source-column").scrollTop = 0;
    find("mark", copy)?.scrollIntoView({ block: "nearest" });
  };

  /* The server replaces an answer when the costs of its experiments are known. Marks the open citation again. */
  const restoreCitation = () => {
    if (!openCitation || openCitation.isConnected || !find("#sources .slot")?.firstElementChild) return;
    const again = find(`[data-exchange="${openSourceId.key}"] .cite[data-cite="${openSourceId.number}"]`);
    if (!again) return;
    again.setAttribute("aria-current", "true");
    openCitation = again;
  };

  const openSheet = () => {
    document.documentElement.classList.add("sheet-open");
    find("#sources [data-close]")?.focus({ preventScroll: true });
  };
  const closeSheet = () => {
    if (!document.documentElement.classList.contains("sheet-open")) return;
    document.documentElement.classList.remove("sheet-open");
    openCitation?.focus({ preventScroll: true });
  };

  // -- earlier questions, stored only in this browser -----------------------------------------------------------------------

  const STORE = "passkb-asked";
  const MAX_RECORDS = 20;
  const loadRecords = () => {
    try {
      const records = JSON.parse(localStorage.getItem(STORE) ?? "[]");
      return Array.isArray(records) ? records.filter((entry) => typeof entry?.text === "string") : [];
    } catch {
      return [];
    }
  };
  const storeRecord = (record) => {
    const { at } = record.dataset;
    const question = find(".question", record.parentElement)?.textContent ?? "";
    const others = loadRecords().filter((entry) => entry.at !== at && entry.question !== question);
    let entries = [...others, { at, question, text: record.textContent }].slice(-MAX_RECORDS);
    record.remove();
    while (entries.length) {
      try {
        localStorage.setItem(STORE, JSON.stringify(entries));
        return;
      } catch {
        entries = entries.slice(1); // storage is full: drop the oldest
      }
    }
  };
  const restore = () => {
    const entries = loadRecords();
    if (entries.length) send("restore_history", { records: entries.map((entry) => entry.text) });
  };
  const clearHistory = () => {
    localStorage.removeItem(STORE);
    send("clear_history", {});
  };

  // -- an answer as Markdown ------------------------------------------------------------------------------------------------

  const showLabel = (button, label) => {
    const before = button.textContent;
    button.textContent = label;
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
    showLabel(button, "Copied");
  };
  const exportAll = () => {
    const texts = [...document.querySelectorAll("#earlier [data-exchange], #answer [data-exchange]")].map((one) => find(".markdown", one)?.textContent);
    const file = new Blob([texts.filter(Boolean).join("\n\n---\n\n")], { type: "text/markdown" });
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(file), download: "passkb-answers.md" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  };

  // -- the panel with the state of the sources, updated whenever it opens -------------------------------------------------

  const showSources = (open) => {
    const toggle = find("#status-toggle");
    if (!toggle || document.documentElement.classList.contains("sources-open") === open) return;
    document.documentElement.classList.toggle("sources-open", open);
    toggle.setAttribute("aria-expanded", String(open));
    if (open) send("open_sources", {});
  };

  // -- buttons that write: they react only to clicks of the user, not of scripts (`isTrusted`) -------------------------------

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
    else if (note !== undefined) openNote(note);
    else if (question !== undefined) ask(question, true, link.dataset.mode ?? "");
    else if (link.hasAttribute("data-copy")) copy(link);
    else if (link.hasAttribute("data-export")) exportAll();
    else if (link.hasAttribute("data-forget")) clearHistory();
    else if (run !== undefined) openRun(run);
    else if (claim !== undefined) fillForm(claim, preset ?? "");
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
      const field = find(notesAreOpen() ? "#note-search :is(input, textarea)" : "#ask-input :is(input, textarea)");
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

  const showCaption = (event) => {
    const pointed = event.target instanceof Element ? event.target.closest("[data-caption]") : null;
    const caption = pointed && find(".caption", pointed.closest("figure"));
    if (caption) caption.textContent = pointed.dataset.caption;
  };
  document.addEventListener("mouseover", showCaption);
  document.addEventListener("focusin", showCaption);

  addEventListener("popstate", () => {
    if (location.search !== shownSearch) route(false);
  });

  /* Reacts to what the server sends: records to store, the first indexed notes, a started run, a note's title. */
  new MutationObserver(() => {
    restoreCitation();
    for (const record of document.querySelectorAll("#answer .record")) storeRecord(record);
    if (find(".welcome[data-reading]") && find("#status .status-line") && !find("#status .going")) location.reload();
    const shown = find("#experiment-list [aria-current] [data-run]")?.dataset.run;
    if (expectedRun && shown && shown !== expectedRun.before) {
      expectedRun = null;
      setAddress(`?run=${encodeURIComponent(shown)}`);
      scrollTo({ top: 0 });
    }
    const title = notesAreOpen() && location.search.startsWith("?note=") && find("#note-title h1")?.textContent;
    if (title && document.title !== `${title} · passkb`) document.title = `${title} · passkb`;
  }).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  const start = () => {
    restore();
    route(true);
  };
  document.addEventListener("passkb-ready", start);
  /* The form was submitted: puts the run into the address once the server has opened it. */
  const expectRun = () => {
    expectedRun = { before: find("#experiment-list [aria-current] [data-run]")?.dataset.run };
  };

  window.passkb = { rememberQuestion, expectRun };
  if (window.passkbSend) start();
})();
