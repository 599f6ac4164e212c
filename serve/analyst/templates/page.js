"use strict";

let key = "";
const one = (id) => document.getElementById(id);
const say = (text) => { one("status").textContent = text; };

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
  return reply.text();
}

// What the service renders is escaped there, and the page's policy runs no script that came with it.
async function show(place, path, body) {
  say("Asking …");
  try {
    one(place).innerHTML = await ask(path, body);
    say("");
  } catch (fault) {
    say(fault.message);
  }
}

one("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = one("key").value.trim();
  one("key").value = "";
  one("key-form").hidden = true;
  say("The key will be used from now on.");
});

one("judge-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const file = one("file").files[0];
    const text = file ? await file.text() : one("exchanges").value;
    await show("cards", "/page/pasted", { text });
  } catch (fault) {
    say(fault.message);
  }
});

one("account-form").addEventListener("submit", (event) => {
  event.preventDefault();
  show("found", `/page/accounts/${encodeURIComponent(one("account").value)}`);
});

one("session-form").addEventListener("submit", (event) => {
  event.preventDefault();
  show("found", `/page/sessions/${encodeURIComponent(one("session").value)}`);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.load) show(`${button.dataset.load}-list`, `/page/${button.dataset.load}`);
  if (button.dataset.session) {
    const account = encodeURIComponent(button.dataset.account);
    show("found", `/page/sessions/${encodeURIComponent(button.dataset.session)}?account_id=${account}`);
    one("look-up").scrollIntoView();
  }
  if (button.dataset.mark) {
    const card = button.closest("[data-verdict]");
    const verdict = JSON.parse(card.dataset.verdict);
    show("marks-list", "/page/marks", { ...verdict, mark: button.dataset.mark, note: card.querySelector("input").value })
      .then(() => { if (!one("status").textContent) say(`Marked as ${button.dataset.mark}.`); });
  }
});
