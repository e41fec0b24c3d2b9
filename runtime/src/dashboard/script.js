(() => {
  // Ticks every row of a list, or none.
  const all = document.querySelector('[data-all]');
  if (all) {
    all.hidden = false;
    const box = all.querySelector('input');
    box.addEventListener('change', () => {
      document.querySelectorAll('input[name=seq]').forEach((row) => { row.checked = box.checked; });
    });
  }
  // Puts fresh numbers in the place of old ones, until somebody asks it to stop.
  const button = document.querySelector('[data-pause]');
  if (!button) return;
  button.hidden = false;
  let paused = false;
  button.addEventListener('click', () => {
    paused = !paused;
    button.setAttribute('aria-pressed', String(paused));
    button.textContent = paused ? 'Resume live updates' : 'Pause live updates';
  });
  const update = async () => {
    if (paused || document.hidden) return;
    try {
      const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
      if (!answer.ok || answer.redirected) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
      document.querySelectorAll('[data-live]').forEach((old) => {
        const next = fresh.getElementById(old.id);
        // What is being used stays as it is.
        if (!next || old.contains(document.activeElement) || old.querySelector('details[open]')) return;
        old.replaceWith(document.adoptNode(next));
      });
    } catch (_unreachable) { /* the next one may be better */ }
  };
  setInterval(update, 5000);
})();
