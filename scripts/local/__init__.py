"""What stands in for hosted services: Supabase itself, Stripe and the AI providers."""
