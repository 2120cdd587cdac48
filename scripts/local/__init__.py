"""What stands in for hosted services: Supabase itself, Stripe and the AI providers.

scripts/README.md says how the local stack differs from a hosted project.
"""
