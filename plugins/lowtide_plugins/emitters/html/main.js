/* The sections in their order. */

summarySection();
todoSection();
errorSection();
latencySection();
frontSection();
stepsSection();
layersSection();
weightsSection();
graphSection();
pluginSections();
optionsSection();
passesSection();

/* The entry of the section that is read is marked in the navigation. */
const entries = new Map([...document.querySelectorAll("#nav a")].map((entry) => [entry.hash.slice(1), entry]));
const seen = new IntersectionObserver(
  (changes) => {
    for (const change of changes) {
      if (!change.isIntersecting) continue;
      for (const [id, entry] of entries) entry.setAttribute("aria-current", id === change.target.id);
    }
  },
  { rootMargin: "-20% 0px -70% 0px" },
);
for (const made of document.querySelectorAll("main > section")) seen.observe(made);
document.documentElement.dataset.ready = "true";
