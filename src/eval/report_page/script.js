'use strict';

// Tables: a click on a column's title sorts by it, numbers from the largest.
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener('click', () => {
    const first = column === 0 ? 'ascending' : 'descending';
    const second = column === 0 ? 'descending' : 'ascending';
    const order = head.getAttribute('aria-sort') === first ? second : first;
    for (const other of heads) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', order);
    const value = row => row.cells[column].dataset.value;
    const compare = column === 0 ? (a, b) => value(a).localeCompare(value(b))
                                 : (a, b) => Number(value(a)) - Number(value(b));
    const sign = order === 'ascending' ? 1 : -1;
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * compare(a, b)));
  }));
}

function gallery(data) {
  const element = id => document.getElementById(id);
  const controls = element('controls');
  const field = name => controls.elements.namedItem(name);
  const cards = element('cards');
  const viewer = element('viewer');
  const template = element('card').content.firstElementChild;
  const number = value => Math.abs(value) >= 1000 || Math.abs(value) < 1e-3 && value !== 0
      ? Number(value.toPrecision(3)).toString() : value.toPrecision(3);
  /// An image this wide has its heat map below it, not beside it.
  const kWide = 1.6;
  /// Width over height of a card's two pictures together.
  let pair = 2;
  const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;

  /// 'right', or how the decision is wrong; nothing where none was made.
  function outcome(image) {
    if (!data.decides) return '';
    if ((image.kind === 'good') === (image.called === 'good')) return 'right';
    return image.kind === 'good' ? 'false' : 'missed';
  }

  /// The images of the other kind that this one is on the wrong side of.
  function note(image) {
    if (image.outranked === undefined) return '';
    return image.kind === 'good' ? `above ${percent(image.outranked)} of the anomalous images`
                                 : `below ${percent(image.outranked)} of the good images`;
  }

  function make_card(image) {
    const card = template.cloneNode(true);
    const part = name => card.querySelector(name);
    const score = part('.score');
    score.textContent = number(image.score);
    if (data.limit !== null) {
      const limit = document.createElement('small');
      limit.textContent = ` / ${number(data.limit)}`;
      score.append(limit);
      score.title = `score ${image.score}, ${data.limit_name} ${data.limit}`;
    }
    part('.kind').textContent = image.kind;
    const badge = part('.badge');
    const result = outcome(image);
    badge.textContent = {right: 'right', false: 'false alarm', missed: 'missed', '': ''}[result];
    badge.classList.add(result === 'right' ? 'right' : 'wrong');
    part('.note').textContent = image.problem ? `no picture: ${image.problem}` : note(image);
    part('.path').textContent = image.path;
    const button = part('.pictures');
    if (image.problem) {
      button.remove();
      return card;
    }
    button.setAttribute('aria-label', `Enlarge ${image.path}`);
    // Whichever shows the two larger.
    const shape = image.width / image.height;
    const beside = Math.min(pair / 2 / shape, 1);
    const below = Math.min(pair / shape, 1 / 2);
    button.classList.toggle('stacked', below > beside);
    const [plain, heat] = card.querySelectorAll('img');
    plain.src = `data:image/jpeg;base64,${image.image}`;
    plain.alt = `${image.path}: ${image.kind}`;
    heat.src = `data:image/jpeg;base64,${image.heatmap}`;
    heat.alt = `Heat map of ${image.path}`;
    for (const svg of card.querySelectorAll('svg')) {
      svg.setAttribute('viewBox', `-0.5 -0.5 ${image.width} ${image.height}`);
    }
    for (const line of card.querySelectorAll('.mask-line')) line.setAttribute('d', image.mask);
    for (const line of card.querySelectorAll('.found-line')) line.setAttribute('d', image.found);
    return card;
  }

  // The images come from the most wrong to the most right.
  data.images.forEach((image, place) => { image.place = place; });
  const orders = {
    wrong: (a, b) => a.place - b.place,
    right: (a, b) => b.place - a.place,
    high: (a, b) => b.score - a.score || a.place - b.place,
    low: (a, b) => a.score - b.score || a.place - b.place,
    name: (a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : 0,
  };
  let shown = [];
  let made = 0;

  function show_more() {
    const batch = document.createDocumentFragment();
    for (const image of shown.slice(made, made + 48)) {
      const card = make_card(image);
      const place = made++;
      const button = card.querySelector('.pictures');
      if (button) button.addEventListener('click', () => open_viewer(place));
      batch.append(card);
    }
    cards.append(batch);
    element('more').hidden = made >= shown.length;
  }

  function update() {
    const kind = field('kind').value;
    const decision = field('decision').value;
    const text = field('text').value.trim().toLowerCase();
    shown = data.images.filter(image => {
      const result = outcome(image);
      return (kind === '' || (kind === ' defects' ? image.kind !== 'good' : image.kind === kind)) &&
          (decision === '' || result === decision ||
           (decision === 'wrong' && (result === 'false' || result === 'missed'))) &&
          image.path.toLowerCase().includes(text);
    });
    shown.sort(orders[field('sort').value] || orders.wrong);
    cards.replaceChildren();
    made = 0;
    element('count').textContent = shown.length === data.images.length
        ? `${shown.length} images` : `${shown.length} of ${data.images.length} images`;
    show_more();
  }

  function outlines() {
    for (const place of [cards, viewer]) {
      place.classList.toggle('no-mask', !field('mask').checked);
      place.classList.toggle('no-found', !field('found').checked);
    }
  }

  // What is chosen stands in the address, so that it can be kept and passed on.
  const kept = ['sort', 'kind', 'decision', 'text'];
  function write_address() {
    const chosen = new URLSearchParams();
    for (const name of kept) {
      const value = field(name).value;
      if (value !== '' && value !== 'wrong' || name === 'decision' && value) chosen.set(name, value);
    }
    const hash = chosen.toString();
    history.replaceState(null, '', hash ? `#${hash}` : '#gallery');
  }
  function read_address() {
    const hash = location.hash.slice(1);
    if (!hash.includes('=')) return false;
    const chosen = new URLSearchParams(hash);
    for (const name of kept) {
      field(name).value = chosen.get(name) || (name === 'sort' ? 'wrong' : '');
      if (field(name).selectedIndex === -1) field(name).selectedIndex = 0;
    }
    return true;
  }

  let at = 0;
  function open_viewer(place) {
    if (place < 0 || place >= shown.length) return;
    at = place;
    const card = make_card(shown[at]);
    const pictures = card.querySelector('.pictures');
    if (pictures) {
      const shape = shown[at].width / shown[at].height;
      const still = document.createElement('div');
      still.className = shape > kWide ? 'pictures stacked' : 'pictures';
      still.append(...pictures.childNodes);
      pictures.replaceWith(still);
      viewer.style.setProperty('--shape', shape);
    }
    viewer.querySelector('.viewer-bar .path').textContent =
        `${at + 1} / ${shown.length} · ${shown[at].path}`;
    viewer.querySelector('.viewer-body').replaceChildren(card);
    if (shown[at].normal_share !== undefined) {
      const note = card.querySelector('.note');
      note.append(`${note.textContent.trim() ? '; ' : ''}above ${
          percent(shown[at].normal_share)} of the normal images that the model knows`);
    }
    if (!viewer.open) viewer.showModal();
  }
  viewer.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (event.target === viewer || button && 'close' in button.dataset) viewer.close();
    if (button && button.dataset.go) open_viewer(at + Number(button.dataset.go));
  });
  viewer.addEventListener('keydown', event => {
    if (event.key === 'ArrowLeft') open_viewer(at - 1);
    if (event.key === 'ArrowRight') open_viewer(at + 1);
  });

  const kinds = [...new Set(data.images.map(image => image.kind))].filter(kind => kind !== 'good');
  const choices = [['good', 'good'], [' defects', 'all defects']];
  for (const kind of kinds.sort()) choices.push([kind, kind]);
  for (const [value, name] of choices) field('kind').add(new Option(name, value));
  element('decision-label').hidden = !data.decides;
  element('mask-switch').hidden = !data.images.some(image => image.mask);
  element('found-switch').hidden = data.limit === null;
  element('found-name').textContent = `above the ${data.limit_name}`;

  // All cards have one shape, that suits the image in the middle.
  const shapes = data.images.filter(image => image.width)
      .map(image => image.width / image.height).sort((a, b) => a - b);
  if (shapes.length) {
    const usual = shapes[shapes.length >> 1];
    pair = Math.min(3, Math.max(1, usual < kWide ? 2 * usual : usual / 2));
    cards.style.setProperty('--pair', pair);
  }

  controls.addEventListener('submit', event => event.preventDefault());
  controls.addEventListener('input', event => {
    outlines();
    if (event.target.type === 'checkbox') return;
    update();
    write_address();
  });
  for (const link of document.querySelectorAll('[data-kind]')) {
    link.href = `#${new URLSearchParams({kind: link.dataset.kind})}`;
  }
  addEventListener('hashchange', () => {
    if (!read_address()) return;
    update();
    element('gallery').scrollIntoView();
  });
  element('more').firstElementChild.addEventListener('click', show_more);
  new IntersectionObserver(entries => {
    if (entries.some(entry => entry.isIntersecting)) show_more();
  }, {rootMargin: '800px'}).observe(element('more'));
  const asked = read_address();
  outlines();
  update();
  if (asked) element('gallery').scrollIntoView();
}

const data = document.getElementById('data');
if (data) gallery(JSON.parse(data.textContent));
