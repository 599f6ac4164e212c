"use strict";

let key = "";
let nAsked = 0;
const TITLES = { queue: "Review queue", decisions: "Decisions", campaigns: "Campaigns", judge: "Judge exchanges", account: "Account", session: "Session", decision: "Decision" };
const one = (id) => document.getElementById(id);
const say = (text) => { one("status").textContent = text; };
const place = () => {
  const [, name = "", query = ""] = /^#\/(\w*)\??(.*)$/.exec(location.hash) || [];
  return { name: name in TITLES ? name : "queue", query: new URLSearchParams(query) };
};

async function ask(path, body) {
  const headers = key ? { authorization: `Bearer ${key}` } : {};
  const options = { headers };
  if (body !== undefined) {
    headers["content-type"] = "application/json";
    options.method = "POST";
    options.body = JSON.stringify(body);
  }
  const reply = await fetch(path, options);
  if (reply.status === 401) {
    one("key-form").hidden = false;
    one("key").focus();
    throw new Error("This service wants a key.");
  }
  if (!reply.ok) {
    const problem = await reply.json().catch(() => ({}));
    const fault = (problem.errors || [])[0];
    throw new Error(`${problem.detail || `status ${reply.status}`}${fault ? ` (${fault.pointer}: ${fault.detail})` : ""}`);
  }
  return reply;
}

// What the service renders is escaped there, and the page's policy runs no script that came with it.
async function show(path, body) {
  const number = ++nAsked;
  try {
    const text = await (await ask(path, body)).text();
    if (number !== nAsked) return false;
    one("view").innerHTML = text;
    say("");
    return true;
  } catch (fault) {
    if (number === nAsked) {
      one("view").textContent = "";
      say(fault.message);
    }
    return false;
  }
}

const titleOf = (name) => ({ queue: one("queue-title"), judge: one("judge-title") })[name]
  || one("view").querySelector("h2") || one("plain-title");

async function load() {
  const { name, query } = place();
  one("queue").hidden = name !== "queue";
  one("judge").hidden = name !== "judge";
  one("plain").hidden = !["decisions", "campaigns"].includes(name);
  one("plain-title").textContent = one("plain").hidden ? "" : TITLES[name];
  document.title = `${TITLES[name]} – Stillwatch`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "judge") {
    nAsked += 1;
    one("view").textContent = "";
    return true;
  }
  if (name === "queue" && document.activeElement !== one("search")) {
    one("search").value = query.get("q") || "";
    one("sort").value = query.get("sort") || "p_value";
  }
  return show(`/page/${name}?${query}`);
}

async function go() {
  one("view").textContent = "";
  await load();
  titleOf(place().name).focus();
  scrollTo(0, 0);
}

const rows = () => [...document.querySelectorAll("tr[data-session]")];
const rowOf = (element) => element && element.closest && element.closest("tr[data-session]");

async function decide(owner, state) {
  const { account, session, after } = owner.dataset;
  const note = owner.querySelector("input[name=note]");
  const at = rows().indexOf(owner);
  try {
    const reply = await ask("/page/decisions", {
      account_id: account, session_id: session === undefined ? null : session, state,
      note: note ? note.value : "", after: after === undefined ? null : Number(after),
    });
    const done = await reply.json();
    await load();
    say(`${state === "new" ? "Opened again" : `Now ${state}`}: ${done.n_sessions} session${done.n_sessions === 1 ? "" : "s"}.`);
    const next = rows()[Math.min(at, rows().length - 1)];
    if (at >= 0 && next) next.querySelector("a").focus();
    else titleOf(place().name).focus();
  } catch (fault) {
    say(fault.message);
  }
}

function search(replaces) {
  const { query } = place();
  query.set("q", one("search").value);
  query.set("sort", one("sort").value);
  query.set("page", "0");
  history[replaces ? "replaceState" : "pushState"](null, "", `#/queue?${query}`);
  load();
}

async function download(link) {
  try {
    const blob = await (await ask(link.getAttribute("href"))).blob();
    const made = document.createElement("a");
    made.href = URL.createObjectURL(blob);
    made.download = link.dataset.download;
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 1000);
    say(`${link.dataset.download} is downloaded.`);
  } catch (fault) {
    say(fault.message);
  }
}

function step(by) {
  const all = rows();
  const at = all.indexOf(rowOf(document.activeElement));
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : Math.min(Math.max(at + by, 0), all.length - 1)];
  if (next) next.querySelector("a").focus();
}

function turn(rel) {
  const link = document.querySelector(`.paging a[rel=${rel}]`);
  if (link) location.hash = link.hash;
}

const STATES = { c: "confirmed", x: "cleared", e: "escalated", r: "new" };
const KEYS = {
  j: () => step(1), k: () => step(-1), n: () => turn("next"), p: () => turn("prev"),
  q: () => { location.hash = "#/queue"; },
  "/": () => { if (!one("queue").hidden) one("search").focus(); },
};

document.addEventListener("keydown", (event) => {
  if (!one("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const owner = rowOf(document.activeElement) || document.querySelector("form.deciding");
  if (event.key in KEYS) KEYS[event.key]();
  else if (event.key in STATES && owner) decide(owner, STATES[event.key]);
  else return;
  event.preventDefault();
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button, a[data-download]");
  if (!button) return;
  if (button.dataset.print) print();
  if (button.dataset.download) {
    event.preventDefault();
    download(button);
  }
});

document.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  if (form.matches(".deciding") && event.submitter) decide(form, event.submitter.dataset.state);
  if (form.id === "filter") search(true);
  if (form.id === "account-form") location.hash = `#/account?id=${encodeURIComponent(one("account").value)}`;
  if (form.id === "session-form") location.hash = `#/session?id=${encodeURIComponent(one("session").value)}`;
  if (form.id === "key-form") {
    key = one("key").value.trim();
    one("key").value = "";
    form.hidden = true;
    load();
  }
  if (form.id === "judge-form") {
    const file = one("file").files[0];
    say("Asking …");
    try {
      await show("/page/pasted", { text: file ? await file.text() : one("exchanges").value });
    } catch (fault) {
      say(fault.message);
    }
  }
});

let waiting = 0;
one("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => search(true), 60);
});
one("sort").addEventListener("change", () => search(true));
addEventListener("hashchange", (event) => {
  if (new URL(event.newURL).hash === "#main") return;
  go();
});
load();
