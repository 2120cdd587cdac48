-- What a new project starts with: eight operations and four packages. An app changes them with UPDATE and INSERT
-- (README, "Prices"). Run again, it adds what is missing and changes nothing.
insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit)
select seed.*
from (
  values
  ('dalle3_image', 'openai', 'gpt-image-1', 'image', 10),
  ('gemini_pro_vision', 'google', 'gemini-2.5-pro', 'request', 8),
  ('stable_diffusion', 'stability', 'stable-image-core', 'image', 3),
  ('image_edit', 'openai', 'gpt-image-1', 'image', 15),
  ('video_generation', 'runway', 'gen4.5', 'video', 50),
  ('meme_generation', 'google', 'gemini-2.5-flash-image', 'image', 5),
  ('ghibli_style', 'openai', 'gpt-image-1', 'image', 8),
  ('cartoon_style', 'stability', 'stable-image-core', 'image', 6)
) as seed (operation, provider, model, unit, credits_per_unit)
where not exists (
  select from public.pricing_tiers as t
  where t.operation = seed.operation
);

insert into public.credit_packages (slug, name, credits, unit_amount, currency, is_popular)
values
('starter', 'Starter', 50, 499, 'usd', false),
('popular', 'Popular', 200, 1799, 'usd', true),
('pro', 'Pro', 500, 3999, 'usd', false),
('enterprise', 'Enterprise', 2000, 13999, 'usd', false)
on conflict (slug, currency) do nothing;
