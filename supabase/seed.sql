-- What a new project starts with: eight operations and four packages. An app changes them with UPDATE and INSERT
-- (README.md here, "Prices"). Run again, it adds what is missing and changes nothing.
insert into public.pricing_tiers (operation, provider, model, unit, credits_per_unit, terms)
select
  seed.operation,
  seed.provider,
  seed.model,
  seed.unit,
  seed.credits_per_unit,
  seed.terms::jsonb
from (
  values
  ('dalle3_image', 'openai', 'gpt-image-2.6-flare', 'image', 10, '{
    "options": {
      "size": {
        "values": {"1024x1024": 0, "1536x1024": 0, "1024x1536": 0, "2048x2048": 8, "2048x1152": 4, "1152x2048": 4,
          "3840x2160": 20, "2160x3840": 20},
        "default": "1024x1024"
      },
      "quality": {"values": {"low": 0, "medium": 0, "high": 8, "xhigh": 16, "max": 32}, "default": "medium"},
      "complexity": {"values": ["low", "medium", "high"]},
      "background": {"values": ["opaque", "transparent", "auto"]},
      "output_format": {"values": ["png", "jpeg", "webp"]}
    }
  }'),
  ('gemini_pro_vision', 'google', 'gemini-3.8-flash', 'request', 8, '{
    "output": "text", "inputs": {"min": 1, "max": 4}, "options": {"seed": {"min": 0, "max": 2147483647}}
  }'),
  ('stable_diffusion', 'stability', 'stable-image-core', 'image', 3, '{
    "options": {
      "aspect_ratio": {"values": ["1:1", "2:3", "3:2", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9"]},
      "seed": {"min": 0, "max": 4294967294},
      "output_format": {"values": ["png", "jpeg", "webp"]}
    }
  }'),
  ('image_edit', 'openai', 'gpt-image-2.6-sunburst', 'image', 15, '{
    "inputs": {"min": 1, "max": 16, "credits": 1}, "mask": true, "deadline_seconds": 240,
    "options": {
      "size": {
        "values": {"1024x1024": 0, "1536x1024": 0, "1024x1536": 0, "2048x2048": 8, "2048x1152": 4, "1152x2048": 4,
          "3840x2160": 20, "2160x3840": 20},
        "default": "1024x1024"
      },
      "quality": {"values": {"low": 0, "medium": 0, "high": 8, "xhigh": 16, "max": 32}, "default": "medium"},
      "complexity": {"values": ["low", "medium", "high"]},
      "background": {"values": ["opaque", "transparent", "auto"]},
      "output_format": {"values": ["png", "jpeg", "webp"]}
    }
  }'),
  ('video_generation', 'runway', 'gen4.5', 'video', 50, '{
    "output": "video", "inputs": {"max": 1}, "max_n": 1, "max_prompt": 1000,
    "options": {
      "duration": {
        "values": {"2": 0, "3": 0, "4": 0, "5": 0, "6": 10, "7": 20, "8": 30, "9": 40, "10": 50}, "default": 5
      },
      "aspect_ratio": {"values": ["16:9", "9:16"]},
      "seed": {"min": 0, "max": 4294967295}
    }
  }'),
  ('meme_generation', 'google', 'gemini-nano-banana-2.1', 'image', 5, '{
    "inputs": {"max": 1, "credits": 1},
    "options": {
      "image_size": {"values": {"1K": 0, "2K": 2, "4K": 6}, "default": "1K"},
      "aspect_ratio": {
        "values": ["1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9"]
      },
      "seed": {"min": 0, "max": 2147483647}
    }
  }'),
  -- With a photo it is an edit, and costs what image_edit costs.
  ('ghibli_style', 'openai', 'gpt-image-2.6-flare', 'image', 8, '{
    "inputs": {"max": 1, "credits": 7},
    "options": {
      "size": {"values": ["1024x1024", "1536x1024", "1024x1536"], "default": "1024x1024"},
      "quality": {"values": {"low": 0, "medium": 0, "high": 8}, "default": "medium"},
      "output_format": {"values": ["png", "jpeg", "webp"]}
    }
  }'),
  ('cartoon_style', 'stability', 'stable-image-core', 'image', 6, '{
    "options": {
      "aspect_ratio": {"values": ["1:1", "2:3", "3:2", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9"]},
      "seed": {"min": 0, "max": 4294967294},
      "output_format": {"values": ["png", "jpeg", "webp"]}
    }
  }')
) as seed (operation, provider, model, unit, credits_per_unit, terms)
where not exists (
  select from public.pricing_tiers as t
  where t.operation = seed.operation
);

-- What the providers charge, in November 2026, US dollars. Tokens are by the million. Google's of gemini-3.8-flash
-- double on 2027-01-01. cost_per_output counts where no tokens are told: an image of medium quality, an answer of 1,000
-- words.
insert into credits.provider_costs (
  provider, model, cost_per_output, cost_per_second, input_text, input_image, output_text, output_image
)
values
('openai', 'gpt-image-2.6-flare', 0.06, null, 5, 8, null, 30),
('openai', 'gpt-image-2.6-sunburst', 0.08, null, 5, 8, null, 30),
('google', 'gemini-nano-banana-2.1', 0.034, null, 1.5, 1.5, 7.5, 30),
('google', 'gemini-3.8-flash', 0.01, null, 0.75, 0.75, 3.75, null),
('stability', 'stable-image-core', 0.03, null, null, null, null, null),
('runway', 'gen4.5', null, 0.12, null, null, null, null)
on conflict (provider, model) do nothing;

insert into public.credit_packages (slug, name, credits, unit_amount, currency, is_popular)
values
('starter', 'Starter', 50, 499, 'usd', false),
('popular', 'Popular', 200, 1799, 'usd', true),
('pro', 'Pro', 500, 3999, 'usd', false),
('enterprise', 'Enterprise', 2000, 13999, 'usd', false)
on conflict (slug, currency) do nothing;
