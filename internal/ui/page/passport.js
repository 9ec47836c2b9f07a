// Has one packet sent, and shows its whole way over the nodes' devices.

const $ = (id) => document.getElementById(id);

// show sends a packet as way says, and opens the dialog with what became of it.
export async function show(way) {
  const say = (text) => { $('passport-says').textContent = text; };
  const picture = $('passport-picture');
  $('passport-title').textContent = `${way.from} → ${way.to}, ${way.protocol}`;
  picture.hidden = true;
  say('One packet is on its way …');
  $('passport').showModal();
  try {
    const answer = await fetch(`passport?${new URLSearchParams(way)}`, { method: 'POST' });
    const said = await answer.text();
    if (!answer.ok) throw new Error(said);
    picture.src = `data:image/svg+xml,${encodeURIComponent(said)}`;
    picture.alt = `the way of ${$('passport-title').textContent}`;
    picture.hidden = false;
    say('');
  } catch (err) {
    say(err.message);
  }
}

$('passport-close').addEventListener('click', () => $('passport').close());
